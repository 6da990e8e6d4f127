"""What a sweep keeps on disk, and how far it has come."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fdr.files import write_atomically
from keras_fdr.landscape.lock import DirectoryLock
from keras_fdr.landscape.results import SweepResults
from keras_fdr.landscape.rows import SweepRow


class Store:
    """The table of a sweep and the weights to go on from.

    The table is written before the weights, so a kill in between repeats a stage,
    with the same outcome.

    Args:
        directory: Path, or `None` to keep everything in memory.
        settings: Dictionary, what was asked for.

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
                    "A sweep goes on with the settings it began with: take another "
                    "directory, or the same settings. Received: "
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
        """Keeps one finished stage."""
        rows = self.results.rows
        key = row.seed, row.stage
        rows[:] = [r for r in rows if (r.seed, r.stage) != key]
        rows.append(row)
        if self._directory:
            self.results.save(self._table)
        self.save(f"seed_{row.seed}", weights, stages=row.stage + 1)

    def finished_stages(self, seed: int) -> tuple[int, list[np.ndarray] | None]:
        """How many stages a seed has behind it, and its weights, else `None`."""
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
        """The weights kept under a name, else `None`."""
        path = self._path(name)
        if path is None or not path.exists():
            return None
        return self._read(path)[1]

    def save(self, name: str, weights: list[np.ndarray], stages: int = 0) -> None:
        """Keeps weights under a name; the file changes when it is complete."""
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
        except Exception as error:  # A damaged archive can raise any of a dozen.
            raise ValueError(
                "A file of weights must be one that a sweep wrote, and complete. "
                "Delete it to train from the start what it holds. "
                f"Received: {str(path)!r} ({error})"
            ) from error
        return stages, weights


class Progress:
    """A progress bar over all epochs of a sweep, with the time left.

    Args:
        settings: The settings of the sweep.
        verbose: Integer; 0 shows nothing.
        function: What else is told of each number of epochs, or `None`.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        verbose: int,
        function: Callable[[int], object] | None = None,
    ) -> None:
        initial = settings["initial"][1] if settings["initial"] else 0
        per_seed = sum(epochs for _, epochs in settings["stages"])
        total = initial + per_seed * len(settings["seeds"])
        self._done = 0
        self._function = function
        self._bar = keras.utils.Progbar(total, unit_name="epoch") if verbose else None

    def add(self, epochs: int) -> None:
        """Counts epochs that were trained, now or by an earlier call."""
        self._done += epochs
        if self._function:
            self._function(epochs)
        if self._bar:
            self._bar.update(self._done)
