"""Figures 1 and 4 of the paper, from records and histories."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_fdr.plots.figures import finish, measuring_layer, new_figure
from keras_fdr.record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class _Panel(NamedTuple):
    """One panel of `schedule`.

    A curve is drawn from the first of its names that a history has.
    """

    ylabel: str
    yscale: str
    curves: tuple[tuple[tuple[str, ...], dict[str, str]], ...]


_SCHEDULE = (
    _Panel(
        "learning rate $\\eta$",
        "log",
        ((("learning_rate",), {"drawstyle": "steps-mid"}),),
    ),
    _Panel("training loss", "log", ((("full_batch_loss", "loss"), {}),)),
    _Panel(
        "accuracy (test: dashed)",
        "linear",
        (
            (("full_batch_accuracy", "accuracy"), {}),
            (("val_accuracy",), {"linestyle": "--"}),
        ),
    ),
    _Panel("dissipation / fluctuation", "log", ((("fdr_ratio",), {}),)),
)


def equilibration(
    source: Any,
    path: str | os.PathLike[str] | None = None,
    title: str | None = None,
) -> "Figure":
    """Draws the approach to stationarity, figure 1 of the paper.

    The upper panel has the mini-batch loss f^B and its half-running average. The lower
    panel has the half-running averages of O_L (dissipation) and O_R (fluctuation)
    against the step t, on log axes. They meet in a stationary state (FDR1).

    Example:

    >>> import numpy as np
    >>> from keras_fdr import Record, plots
    >>> rows = np.random.default_rng(0).uniform(1.0, 2.0, (100, 5))
    >>> figure = plots.equilibration(Record(rows, steps=100))
    >>> len(figure.axes)
    2

    Args:
        source: A `Record`, the path of a file that `Record.save` wrote, an
            `FDRObservables`, or an optimizer or model that has one.
        path: Where to write the picture. The file's ending sets the format.
            Defaults to `None`, no file.
        title: String above the picture. Defaults to `None`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        TypeError: If `source` is none of these.
        ImportError: If matplotlib is not installed.
    """
    record = _as_record(source)
    figure = new_figure(figsize=(6.4, 6.4))
    # The record of a single weight tensor does not have the loss.
    has_loss = "loss" in record.names and bool(
        np.isfinite(record.half_running_average("loss"))
    )
    axes = figure.subplots(1 + has_loss, 1, sharex=True, squeeze=False)[:, 0]
    if has_loss:
        axes[0].plot(*record.block_means("loss"), color="lightgreen", lw=0.8)
        axes[0].plot(*record.series("loss"), color="darkgreen", label="half-running")
        axes[0].set(ylabel="mini-batch loss", xscale="log")
        axes[0].legend(frameon=False)
    for name, side, style in (("dissipation", "L", ":"), ("fluctuation", "R", "-")):
        label = rf"{name} $\overline{{O}}_{side}$"
        axes[-1].plot(*record.series(name), style, label=label)
    axes[-1].set(xlabel="steps t", ylabel="half-running average")
    axes[-1].set_xscale("log")
    # O_L is noisy in a short record, and can be negative there.
    axes[-1].set_yscale("log", nonpositive="mask")
    axes[-1].legend(frameon=False)
    if np.isfinite(record.learning_rate):
        axes[-1].set_title(rf"$\eta$ = {record.learning_rate:.4g}", fontsize="medium")
    return finish(figure, path, title)


def schedule(
    histories: Mapping[str, Any],
    path: str | os.PathLike[str] | None = None,
    title: str | None = None,
    colors: Sequence[Any] | None = None,
) -> "Figure":
    """Draws runs against epochs, figure 4 of the paper.

    The panels are, from top to bottom: the learning rate η; the loss over the training
    set; the accuracies on the training set (solid) and the test set (dashed); and the
    ratio of the two sides of FDR1. A quantity that no history has is left out.

    Example:

    >>> from keras_fdr import plots
    >>> run = {"learning_rate": [0.1, 0.09], "loss": [2.0, 1.5], "fdr_ratio": [9, 1]}
    >>> figure = plots.schedule({"adaptive": run})
    >>> len(figure.axes)
    3

    Args:
        histories: Dictionary from a run's label to its history: a
            `keras.callbacks.History`, or its dictionary of lists.
        path: Where to write the picture. The file's ending sets the format.
            Defaults to `None`, no file.
        title: String above the picture. Defaults to `None`.
        colors: List of matplotlib colours, one a run. Defaults to `None`, the colours
            of its cycle.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        TypeError: If `histories` is not a dictionary, or a history is none of these.
        ValueError: If no history has a quantity to draw, or `colors` are too few.
        ImportError: If matplotlib is not installed.
    """
    if not isinstance(histories, Mapping):
        raise TypeError(
            "`histories` must be a dictionary from a label to a history. "
            f"Received: histories={histories!r}"
        )
    runs = {label: _as_logs(history) for label, history in histories.items()}
    columns: set[str] = set().union(*runs.values())
    panels = [
        p for p in _SCHEDULE if any(columns & set(names) for names, _ in p.curves)
    ]
    if not panels:
        raise ValueError(
            "A history must have at least one of `learning_rate`, `loss`, `accuracy` "
            f"and `fdr_ratio`. Received: {sorted(columns)}"
        )
    colors = [f"C{number}" for number in range(len(runs))] if colors is None else colors
    if len(colors) < len(runs):
        raise ValueError(
            f"`colors` must have one colour a run, here {len(runs)}. "
            f"Received: colors={colors}"
        )
    figure = new_figure(figsize=(6.4, 1 + 2 * len(panels)))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        for number, (label, logs) in enumerate(runs.items()):
            for names, style in panel.curves:
                values = next((logs[name] for name in names if name in logs), ())
                values = np.asarray(values, dtype=float)
                # An epoch without a full-batch pass has NaN here.
                known = np.flatnonzero(np.isfinite(values))
                axis.plot(
                    known + 1,
                    values[known],
                    color=colors[number],
                    lw=1.2,
                    label=label,
                    **style,
                )
        axis.set(ylabel=panel.ylabel, yscale=panel.yscale)
        if "fdr_ratio" in panel.curves[0][0]:
            axis.axhline(1, color="gray", lw=0.8)
    axes[0].legend(frameon=False)
    axes[-1].set_xlabel("epochs")
    return finish(figure, path, title)


def _as_record(source: Any) -> Record:
    if isinstance(source, Record):
        return source
    if isinstance(source, (str, os.PathLike)):
        return Record.load(source)
    source = measuring_layer(source)
    if not callable(getattr(source, "record", None)):
        raise TypeError(
            "`source` must be a `Record`, the path of one, or an object that records. "
            f"Received: source={source}"
        )
    return source.record()


def _as_logs(history: Any) -> Mapping[str, Any]:
    logs = getattr(history, "history", history)
    if not isinstance(logs, Mapping):
        raise TypeError(
            "A history must be a `keras.callbacks.History` or a dictionary of lists. "
            f"Received: {history}"
        )
    return logs
