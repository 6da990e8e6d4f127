"""Turns whatever a user has of a training run into what can be drawn."""

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_fdr.record import Record

if TYPE_CHECKING:
    from keras_fdr.optimizer.cut_table import Cut

SOURCES = (
    "a `keras.callbacks.History`, an `FDRCallback`, a model or optimizer that is "
    "measured, a `Record`, the logs of epochs (a dictionary of lists), or the path of "
    "a file that `Record.save` or `keras.callbacks.CSVLogger` wrote"
)


@dataclass(frozen=True)
class Run:
    """What a source knows of one training run. What it does not know is empty.

    Args:
        record: The `Record` since the last cut. It has no steps if it is unknown.
        logs: Dictionary from a column of the logs to its values, one an epoch.
        epochs: The number of each epoch in `logs`, counted from 1.
        cuts: Sequence of `Cut`.
        by_variable: Dictionary from a weight tensor's name to its `Record`.
    """

    record: Record = field(default_factory=Record.empty)
    logs: Mapping[str, np.ndarray] = field(default_factory=dict)
    epochs: np.ndarray = field(default_factory=lambda: np.arange(0))
    cuts: "Sequence[Cut]" = ()
    by_variable: Mapping[str, Record] = field(default_factory=dict)

    @property
    def cut_epochs(self) -> list[int]:
        """The epochs, counted from 1, at whose end the learning rate was cut.

        A table of cuts may also hold those of an earlier `fit`, which began at epoch 1
        too. These are left out, because the logs have another learning rate there.
        """
        if not self.cuts:
            return self._cut_epochs_of_logs()
        rates = dict(zip(self.epochs.tolist(), self.rates, strict=False))
        return [
            cut.epoch
            for cut in self.cuts
            # Callbacks of Keras may overwrite `learning_rate` after the cut.
            if np.isclose(
                rates.get(cut.epoch, np.nan),
                [cut.old_learning_rate, cut.new_learning_rate],
            ).any()
        ]

    def _cut_epochs_of_logs(self) -> list[int]:
        """Epochs that were found stationary and after which the rate was lower."""
        rates = self.rates
        stationary = self.logs.get("fdr_stationary")
        if stationary is None or len(rates) < 2:
            return []
        found = (stationary[:-1] == 1) & (rates[1:] < rates[:-1])
        return [int(epoch) for epoch in self.epochs[:-1][found]]

    @property
    def rates(self) -> np.ndarray:
        """The learning rate of each epoch; empty if it is unknown."""
        # Other callbacks may overwrite `learning_rate` after a cut.
        columns = ("fdr_learning_rate", "learning_rate")
        return next((self.logs[c] for c in columns if c in self.logs), np.empty(0))


def run_of(source: Any) -> Run:
    """Reads everything that a source knows of a training run.

    Args:
        source: One of `SOURCES`.

    Returns:
        A `Run`.

    Raises:
        TypeError: If `source` is none of these.
        ValueError: If the file is none of these.
    """
    if isinstance(source, Run):
        return source
    if isinstance(source, Record):
        return Run(record=source)
    if isinstance(source, (str, os.PathLike)):
        return _run_of_file(Path(source))
    if isinstance(source, Mapping):
        return _run_of_logs(source)
    if isinstance(getattr(source, "history", None), Mapping):  # A `History`.
        run = _run_of_logs(source.history, getattr(source, "epoch", None))
        return _with_measurements(run, getattr(source, "model", None))
    if hasattr(source, "verdict") and hasattr(source, "cuts"):  # An `FDRCallback`.
        model, record = source.model, source.record
        history = getattr(model, "history", None)
        run = run_of(history) if history is not None else Run()
        run = _with_measurements(run, getattr(source, "optimizer", None) or model)
        # The record of the newest epoch still has the steps before a cut.
        return _replaced(run, record=record) if record is not None else run
    if not hasattr(source, "optimizer") and _observables(source) is None:
        raise TypeError(
            f"`source` must be {SOURCES}. Received: source={repr(source)[:200]}"
        )
    # A model that was trained has the `History` of its newest `fit`.
    history = getattr(source, "history", None)
    run = _run_of_logs(history.history, history.epoch) if history is not None else Run()
    return _with_measurements(run, source)


def _with_measurements(run: Run, owner: Any) -> Run:
    """Adds the record and the cuts that a model or an optimizer has."""
    observables = _observables(owner)
    if observables is None:
        return run
    by_variable = {}
    if getattr(observables, "per_variable", False):
        by_variable = observables.record_by_variable()
    table = getattr(_measured(owner), "cut_table", None)
    return _replaced(
        run,
        record=observables.record(),
        cuts=tuple(table.read()) if table is not None else (),
        by_variable=by_variable,
    )


def _replaced(run: Run, **changes: Any) -> Run:
    return Run(**{**vars(run), **changes})


def _measured(owner: Any) -> Any:
    """The optimizer of a model without a wrapper for loss scaling, or `owner`."""
    for name in ("optimizer", "inner_optimizer"):
        owner = getattr(owner, name, owner)
    return owner


def _observables(owner: Any) -> Any:
    """The layer that holds the record; `None` if there is none."""
    owner = _measured(owner)
    found = getattr(owner, "observables", owner)
    return found if callable(getattr(found, "record", None)) else None


def _run_of_logs(logs: Mapping[str, Any], epochs: Any = None) -> Run:
    columns = {name: _numbers(name, values) for name, values in logs.items()}
    longest = max(map(len, columns.values()), default=0)
    numbers = 1 + np.asarray(range(longest) if epochs is None else epochs, dtype=int)
    if len(numbers) != longest:  # A `History` that someone changed by hand.
        numbers = np.arange(1, longest + 1)
    return Run(logs=columns, epochs=numbers)


def _numbers(name: str, values: Any) -> np.ndarray:
    try:
        numbers = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        numbers = np.empty(())
    if numbers.ndim != 1:
        raise TypeError(
            "Logs must be a dictionary of lists with one number an epoch. "
            f"Received: {name}={repr(values)[:200]}"
        )
    return numbers


def _run_of_file(path: Path) -> Run:
    """Reads a file of `Record.save`, which is a zip file, or one of `CSVLogger`."""
    with open(path, "rb") as file:
        start = file.read(6)
    if not start.startswith(b"epoch") or len(start) < 6:
        return Run(record=Record.load(path))
    with open(path, newline="", encoding="utf-8") as text:
        # The first column of `CSVLogger` is "epoch", so what follows it separates.
        rows = list(csv.DictReader(text, delimiter=start[5:].decode()))
    names = [name for name in (rows[0] if rows else ()) if name != "epoch"]
    logs = {name: [_number(row[name]) for row in rows] for name in names}
    return _run_of_logs(logs, [int(float(row["epoch"])) for row in rows])


def _number(text: str) -> float:
    """A cell of `CSVLogger`, which is not always a number, for instance "NA"."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return float("nan")
