"""What a sweep keeps on disk."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_fdr.files import write_atomically
from keras_fdr.landscape.results import SweepResults
from keras_fdr.landscape.rows import SweepRow
from keras_fdr.landscape.sweeps.lock import DirectoryLock


class Store:
    """The table of a sweep, and the weights to resume from.

    The table is written before the weights. After a kill in between, the sweep repeats
    one stage, with the same outcome.

    Args:
        directory: Path, or `None` to keep everything in memory.
        settings: Dictionary of all that defines the numbers of the sweep.

    Raises:
        ValueError: If the directory holds a sweep with other settings.
    """

    def __init__(
        self, directory: str | os.PathLike[str] | None, settings: dict[str, Any]
    ) -> None:
        self._directory = None if directory is None else Path(directory)
        self.results = SweepResults(settings)
        if self._directory is None:
            return
        if self._directory.exists() and not self._directory.is_dir():
            raise ValueError(
                "`directory` must be a directory, or a path where one can be made. "
                f"Received: directory={str(directory)!r}, which is a file"
            )
        self._directory.mkdir(parents=True, exist_ok=True)
        self._lock = DirectoryLock(self._directory)
        try:
            self._open_table(self._directory / "sweep.json", settings)
        except BaseException:
            self._lock.release()
            raise

    def _open_table(self, path: Path, settings: dict[str, Any]) -> None:
        self._table = path
        if self._table.exists():
            self.results = SweepResults.load(self._table)
            theirs = self.results.settings
            differ = [k for k in settings if settings[k] != theirs.get(k)]
            if differ:
                raise ValueError(
                    "A sweep resumes with the settings it began with. Use the same "
                    "settings, or another directory. Received: "
                    f"{str(self._directory)!r} "
                    + ", ".join(
                        f"with {k}={theirs.get(k)} instead of {settings[k]}"
                        for k in differ
                    )
                )
        else:
            self.results.save(self._table)

    def close(self) -> None:
        """Lets other processes write to the directory."""
        if self._directory is not None:
            self._lock.release()

    def add(self, row: SweepRow, weights: list[np.ndarray]) -> None:
        """Keeps one finished stage, and the weights at its end."""
        rows = self.results.rows
        key = row.seed, row.stage
        rows[:] = [r for r in rows if (r.seed, r.stage) != key]
        rows.append(row)
        if self._directory:
            self.results.save(self._table)
        self.save(f"seed_{row.seed}", weights, stages=row.stage + 1)

    def finished_stages(self, seed: int) -> tuple[int, list[np.ndarray] | None]:
        """How many stages a seed has finished, and its weights, or `None`."""
        path = self._path(f"seed_{seed}")
        if path is None or not path.exists():
            return 0, None
        stages, weights = self._read(path)
        rows = {(row.seed, row.stage) for row in self.results.rows}
        if any((seed, stage) not in rows for stage in range(stages)):
            # Only the newest weights are kept, so the seed starts again.
            return 0, None
        return stages, weights

    def load(self, name: str) -> list[np.ndarray] | None:
        """The weights kept under a name, or `None`."""
        path = self._path(name)
        if path is None or not path.exists():
            return None
        return self._read(path)[1]

    def save(self, name: str, weights: list[np.ndarray], stages: int = 0) -> None:
        """Keeps weights under a name. A file is replaced only by a complete one."""
        path = self._path(name)
        if path is None:
            return
        arrays: dict[str, Any] = {f"weight_{i}": w for i, w in enumerate(weights)}
        write_atomically(path, lambda file: np.savez(file, stages=stages, **arrays))

    def _path(self, name: str) -> Path | None:
        return self._directory and self._directory / f"{name}.npz"

    def _read(self, path: Path) -> tuple[int, list[np.ndarray]]:
        """The number of finished stages and the weights in a file."""
        content = path.read_bytes()
        try:
            with np.load(io.BytesIO(content)) as file:
                weights = [file[f"weight_{i}"] for i in range(len(file.files) - 1)]
                stages = int(file["stages"])
            shapes = [list(w.shape) for w in weights]
            if shapes != self.results.settings.get("shapes", shapes):
                raise ValueError(f"it holds weights of the shapes {shapes}")
        except Exception as error:  # A damaged archive can raise many kinds.
            raise ValueError(
                "A file of weights must be a complete file that a sweep wrote. "
                "Delete it to train again what it holds. "
                f"Received: {str(path)!r} ({error})"
            ) from error
        return stages, weights
