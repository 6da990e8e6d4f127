"""What a sweep measured, as a table."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keras_fdr.files import write_atomically


@dataclass(frozen=True)
class SweepResults:
    """One row for each seed and learning rate.

    Args:
        settings: Dictionary of what was asked for: `mode`, `stages`, `initial`,
            `seeds`, `batch_size`, `examples`, `momentum`, `dampening`, `l2`.
        rows: List of dictionaries. `seed`, `stage` and `learning_rate` say which
            run; `steps` and `passes` how long; the others are averages over its
            newest half: `full_batch_loss`, `full_batch_gradient_norm_squared`,
            `full_batch_velocity_gradient`, `full_batch_dissipation` (O_FB),
            `full_batch_drift` (how fast f falls, a step, over η: in a stationary
            state 0, else FDR2 is off by as much),
            `velocity_curvature` ⟨v(t+1)ᵀHv(t+1)⟩, `noise_curvature` Tr(HC̃),
            `gradient_norm_squared` Tr C̃, `dissipation` and `fluctuation`. `series`
            holds `steps` and the half-running averages of the latter two, for
            figure 2.
    """

    settings: dict
    rows: list = field(default_factory=list)

    @classmethod
    def of(cls, source):
        """The table itself, or the one in a file or in the directory of a sweep.

        Raises:
            TypeError: If `source` is none of these.
        """
        if isinstance(source, (str, os.PathLike)):
            return cls.load(source)
        if isinstance(source, cls):
            return source
        raise TypeError(
            "`results` must be `SweepResults` or the path of a sweep. "
            f"Received: {type(source).__name__}"
        )

    @classmethod
    def join(cls, sources):
        """The table of all seeds of several sweeps with otherwise equal settings.

        For seeds that were trained in processes of their own.

        Args:
            sources: Iterable of `SweepResults` or paths of sweeps.

        Raises:
            ValueError: If settings differ in more than the seeds, or a seed comes
                twice.
        """
        if isinstance(sources, (str, os.PathLike)) or not isinstance(sources, Iterable):
            raise TypeError(
                "`sources` must be an iterable of `SweepResults` or paths of sweeps. "
                f"Received: sources={sources!r}"
            )
        tables = [cls.of(source) for source in sources]
        settings = [
            {k: v for k, v in table.settings.items() if k != "seeds"}
            for table in tables
        ]
        seeds = [seed for table in tables for seed in table.settings["seeds"]]
        if any(other != settings[0] for other in settings) or not tables:
            raise ValueError(
                "Sweeps to join must have equal settings but for their seeds. "
                f"Received: {settings}"
            )
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"Each seed must come once. Received: seeds={seeds}")
        rows = [row for table in tables for row in table.rows]
        return cls({**settings[0], "seeds": seeds}, rows)

    @property
    def learning_rates(self):
        """The different η, ascending."""
        return sorted({row["learning_rate"] for row in self.rows})

    def column(self, name):
        """One quantity of every run.

        Args:
            name: The key of a row.

        Returns:
            Float array of shape `(seeds, learning rates)`, ascending in both, of
            the seeds that have finished every learning rate. A learning rate that
            came twice is averaged.
        """
        cells: dict[tuple, list] = {}
        for row in self.rows:
            key = row["seed"], row["learning_rate"]
            if name not in row:
                raise ValueError(
                    f"Every row of a table must have the column {name!r}. Received: "
                    f"a row with {sorted(row)}"
                )
            cells.setdefault(key, []).append(row[name])
        rates = self.learning_rates
        seeds = sorted({seed for seed, _ in cells})
        complete = [s for s in seeds if all((s, rate) in cells for rate in rates)]
        table = [[np.mean(cells[s, rate]) for rate in rates] for s in complete]
        return np.array(table, dtype=np.float64).reshape(len(complete), len(rates))

    def save(self, path):
        """Writes the table as JSON; a file of that name is replaced when complete.

        Args:
            path: File name or path object.
        """
        # Every row has a line of its own.
        rows = ",\n".join(map(json.dumps, self.rows))
        settings = json.dumps(self.settings)
        checksum = _checksum(self.settings, self.rows)
        text = (
            f'{{"settings": {settings},\n"checksum": "{checksum}",\n'
            f'"rows": [\n{rows}\n]}}\n'
        )
        write_atomically(path, lambda file: file.write(text.encode()))

    @classmethod
    def load(cls, path):
        """Reads a table that `save` wrote.

        Args:
            path: File name or path object, or the directory of a sweep.

        Raises:
            ValueError: If the file is not a complete table.
        """
        path = Path(path)
        if path.is_dir():
            path = path / "sweep.json"
        try:
            content = json.loads(path.read_text())
            return cls(*_checked(content))
        except (ValueError, RecursionError) as error:
            raise ValueError(
                "A table must be one that a sweep wrote, whole. "
                f"Received: {str(path)!r} ({error})"
            ) from error


def _checksum(settings, rows):
    """A digest that does not depend on the layout of the file."""
    text = json.dumps([settings, rows], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _checked(content):
    """The settings and rows of a file, if they are those that were written."""
    # Files of older versions have no checksum. Those of the examples also say when and
    # with what they were made.
    if not isinstance(content, dict) or not {"settings", "rows"} <= set(content):
        raise ValueError("it must hold settings and rows")
    settings, rows = content["settings"], content["rows"]
    if not isinstance(settings, dict):
        raise ValueError("its settings must be a dictionary")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("its rows must be a list of dictionaries")
    if "checksum" in content and content["checksum"] != _checksum(settings, rows):
        raise ValueError("its numbers are not those that were written")
    return settings, rows
