"""The table of what a sweep measured."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from keras_fdr.arguments import check_path
from keras_fdr.landscape.rows import COLUMNS, SweepRow
from keras_fdr.landscape.table_file import read_table, write_table

if TYPE_CHECKING:
    from pandas import DataFrame

# These fields are not measured numbers.
_NOT_A_NUMBER = ("seed", "stage", "series")


@dataclass(frozen=True)
class SweepResults:
    """The table of a sweep: one row for each seed and stage.

    Example:

    >>> from keras_fdr.landscape import SweepResults, SweepRow
    >>> rows = [SweepRow(0, 0, 0.1, fluctuation=3), SweepRow(0, 1, 0.2, fluctuation=5)]
    >>> results = SweepResults({"mode": "independent"}, rows)
    >>> results.column("fluctuation")
    array([[3., 5.]])
    >>> results
    SweepResults(mode='independent', seeds=1, learning_rates=2, rows=2)

    Args:
        settings: Dictionary of the settings of the sweep: `mode`, `stages`, `initial`,
            `seeds`, `batch_size`, `examples`, `momentum`, `dampening`, `l2`.
        rows: List of `SweepRow`, or of dictionaries with its fields.
            Defaults to an empty list.
    """

    settings: dict[str, Any]
    rows: list[SweepRow] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not isinstance(self.settings, dict):
            raise TypeError(
                f"`settings` must be a dictionary. Received: settings={self.settings!r}"
            )
        if not isinstance(self.rows, (list, tuple)) or not all(
            isinstance(row, (SweepRow, Mapping)) for row in self.rows
        ):
            raise TypeError(
                "`rows` must be a list of `SweepRow` or of dictionaries with its "
                f"fields. Received: rows={self.rows!r}"
            )
        rows = [
            SweepRow.from_dict(row) if isinstance(row, Mapping) else row
            for row in self.rows
        ]
        object.__setattr__(self, "rows", rows)

    def __repr__(self) -> str:
        seeds = len({row.seed for row in self.rows})
        return (
            f"SweepResults(mode={self.settings.get('mode')!r}, seeds={seeds}, "
            f"learning_rates={len(self.learning_rates)}, rows={len(self.rows)})"
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Reads a pickle, also of a version in which a row was a dictionary."""
        self.__dict__.update(state)
        self.__post_init__()

    @classmethod
    def of(cls, source: Any) -> Self:
        """The table that is given, or the table of a file or of a sweep's directory.

        Args:
            source: `SweepResults`, or a path.

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
    def join(cls, sources: Iterable[Any]) -> Self:
        """The table of all seeds of several sweeps with otherwise equal settings.

        Use it for seeds that were trained in separate processes.

        Args:
            sources: Iterable of `SweepResults` or paths of sweeps.

        Raises:
            TypeError: If `sources` is not an iterable of these.
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
        seeds = [seed for table in tables for seed in table.setting("seeds")]
        if any(other != settings[0] for other in settings) or not tables:
            raise ValueError(
                "Sweeps to join must have equal settings except for their seeds. "
                f"Received: {settings}"
            )
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"Each seed must come once. Received: seeds={seeds}")
        rows = [row for table in tables for row in table.rows]
        return cls({**settings[0], "seeds": seeds}, rows)

    def setting(self, name: str) -> Any:
        """One of the settings.

        Args:
            name: String, the setting's name.

        Raises:
            ValueError: If the table does not have it.
        """
        if name not in self.settings:
            raise ValueError(
                f"The settings of a sweep must have `{name}`. "
                f"Received: settings={self.settings!r}"
            )
        return self.settings[name]

    @property
    def learning_rates(self) -> list[float]:
        """The different learning rates η, ascending."""
        return sorted({row.learning_rate for row in self.rows})

    def column(self, name: str) -> np.ndarray:
        """One quantity of every run.

        Args:
            name: String, the name of a number of `SweepRow`.

        Returns:
            Float array of shape `(seeds, learning rates)`, ascending in both. It has
            only the seeds that have finished every learning rate. If a learning rate
            came twice, its values are averaged.

        Raises:
            ValueError: If `name` is not the name of a number, or no row has it.
        """
        known = isinstance(name, str) and name in COLUMNS
        if not known or name in _NOT_A_NUMBER:
            names = ", ".join(c for c in COLUMNS if c not in _NOT_A_NUMBER)
            raise ValueError(f"`name` must be one of {names}. Received: name={name!r}")
        cells: dict[tuple[int, float], list[float]] = {}
        for row in self.rows:
            key = row.seed, row.learning_rate
            cells.setdefault(key, []).append(getattr(row, name))
        if cells and np.isnan(np.concatenate([*cells.values()])).all():
            raise ValueError(
                f"A table must have numbers in the column {name!r}. Received: "
                f"{len(self.rows)} rows without it"
            )
        rates = self.learning_rates
        seeds = sorted({seed for seed, _ in cells})
        complete = [s for s in seeds if all((s, rate) in cells for rate in rates)]
        table = [[np.mean(cells[s, rate]) for rate in rates] for s in complete]
        return np.array(table, dtype=np.float64).reshape(len(complete), len(rates))

    def to_dataframe(self) -> "DataFrame":
        """The table as a pandas `DataFrame`, for pictures and statistics.

        Returns:
            A `pandas.DataFrame` with one line a row and one column a number. The
            `series` are left out.

        Raises:
            ImportError: If pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ImportError as error:
            raise ImportError(
                "Data frames need pandas: `pip install 'keras-fdr[pandas]'`."
            ) from error
        names = [name for name in COLUMNS if name != "series"]
        lines = [[getattr(row, name) for name in names] for row in self.rows]
        return DataFrame(lines, columns=names)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the table as JSON. A file of that name is replaced by a complete one.

        Args:
            path: File name or path object.
        """
        check_path("path", path)
        write_table(path, self.settings, [row.to_dict() for row in self.rows])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a table that `save` wrote.

        Args:
            path: File name or path object, or the directory of a sweep.

        Raises:
            ValueError: If the file is not a complete table.
        """
        file = Path(check_path("path", path))
        if file.is_dir():
            file = file / "sweep.json"
        try:
            settings, rows = read_table(file)
            return cls(settings, [SweepRow.from_dict(row) for row in rows])
        except (ValueError, RecursionError) as error:
            raise ValueError(
                "A table must be a complete file that a sweep wrote. "
                f"Received: {str(file)!r} ({error})"
            ) from error
