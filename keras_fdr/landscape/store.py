"""What a sweep keeps on disk, and how far it has come."""

import os
from pathlib import Path

import keras
import numpy as np

from keras_fdr.landscape.results import SweepResults


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

    def __init__(self, directory, settings):
        self._directory = None if directory is None else Path(directory)
        self.results = SweepResults(settings)
        if self._directory is None:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        self._table = self._directory / "sweep.json"
        if self._table.exists():
            self.results = SweepResults.load(self._table)
            theirs = self.results.settings
            differ = [k for k in settings if settings[k] != theirs.get(k)]
            if differ:
                raise ValueError(
                    "A sweep goes on with the settings it began with: take another "
                    f"directory, or the same settings. Received: {str(directory)!r} "
                    + ", ".join(
                        f"with {k}={theirs.get(k)} instead of {settings[k]}"
                        for k in differ
                    )
                )
        else:
            self.results.save(self._table)

    def add(self, row, weights):
        """Keeps one finished stage."""
        rows = self.results.rows
        key = row["seed"], row["stage"]
        rows[:] = [r for r in rows if (r["seed"], r["stage"]) != key]
        rows.append(row)
        if self._directory:
            self.results.save(self._table)
        self.save(f"seed_{row['seed']}", weights, stages=row["stage"] + 1)

    def finished_stages(self, seed):
        """How many stages a seed has behind it, and its weights, else `None`."""
        path = self._path(f"seed_{seed}")
        if path is None or not path.exists():
            return 0, None
        with np.load(path) as file:
            return int(file["stages"]), self._arrays(file)

    def load(self, name):
        """The weights kept under a name, else `None`."""
        path = self._path(name)
        if path is None or not path.exists():
            return None
        with np.load(path) as file:
            return self._arrays(file)

    def save(self, name, weights, stages=0):
        """Keeps weights under a name; the file changes when it is complete."""
        path = self._path(name)
        if path is None:
            return
        arrays = {f"weight_{i}": w for i, w in enumerate(weights)}
        partial = path.with_suffix(".partial")
        with open(partial, "wb") as file:
            np.savez(file, stages=stages, **arrays)
        os.replace(partial, path)

    def _path(self, name):
        return self._directory and self._directory / f"{name}.npz"

    @staticmethod
    def _arrays(file):
        return [file[f"weight_{i}"] for i in range(len(file.files) - 1)]


class Progress:
    """A progress bar over all epochs of a sweep, with the time left.

    Args:
        settings: The settings of the sweep.
        verbose: Integer; 0 shows nothing.
        function: What else is told of each number of epochs, or `None`.
    """

    def __init__(self, settings, verbose, function=None):
        initial = settings["initial"][1] if settings["initial"] else 0
        per_seed = sum(epochs for _, epochs in settings["stages"])
        total = initial + per_seed * len(settings["seeds"])
        self._done = 0
        self._function = function
        self._bar = keras.utils.Progbar(total, unit_name="epoch") if verbose else None

    def add(self, epochs):
        """Counts epochs that were trained, now or by an earlier call."""
        self._done += epochs
        if self._function:
            self._function(epochs)
        if self._bar:
            self._bar.update(self._done)
