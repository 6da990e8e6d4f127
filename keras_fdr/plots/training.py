"""Figures 1 and 4 of the paper, from records and histories."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_fdr.plots.figures import finish, mark_cuts, panels_on
from keras_fdr.plots.sources import Run, run_of
from keras_fdr.record import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class _Panel(NamedTuple):
    """One panel of `schedule`.

    A curve is drawn from the first of its columns that the logs have.
    """

    ylabel: str
    yscale: str
    columns: tuple[str, ...]
    validation: tuple[str, ...] = ()


_RATE = _Panel("learning rate $\\eta$", "log", ("fdr_learning_rate", "learning_rate"))
_LOSS = _Panel("loss", "log", ("full_batch_loss", "loss"), ("val_loss",))
_RATIO = _Panel("dissipation / fluctuation", "log", ("fdr_ratio",))
_TRAINING, _VALIDATION = {"linestyle": "-"}, {"linestyle": "--"}


def equilibration(
    source: Any,
    path: str | os.PathLike[str] | None = None,
    title: str | None = None,
    ax: Any = None,
) -> "tuple[Figure, np.ndarray]":
    """Draws the approach to stationarity, figure 1 of the paper.

    The upper panel has the mini-batch loss f^B and its half-running average. The lower
    panel has the half-running averages of O_L (dissipation) and O_R (fluctuation)
    against the step t, on log axes. They meet in a stationary state (FDR1). Steps are
    counted from the last cut, so no cut lies within the picture.

    Example:

    >>> import numpy as np
    >>> from keras_fdr import Record, plots
    >>> rows = np.random.default_rng(0).uniform(1.0, 2.0, (100, 5))
    >>> figure, axes = plots.equilibration(Record(rows, steps=100))
    >>> [axis.get_ylabel() for axis in axes]
    ['mini-batch loss', 'half-running average']

    Args:
        source: A `Record`, the path of a file that `Record.save` wrote, an
            `FDRCallback`, a `keras.callbacks.History`, or a model, optimizer or
            `FDRObservables` that is measured. An `FDRCallback` has the record of the
            newest epoch, also if the rate was cut at its end.
        path: Where to write the picture. The file's ending sets the format.
            Defaults to `None`, no file.
        title: String above the picture. Defaults to `None`.
        ax: A matplotlib `Axes` for the lower panel alone, or a list of one `Axes` for
            each panel. Defaults to `None`, a new figure.

    Returns:
        `(figure, axes)`: the `matplotlib.figure.Figure` and an array of its `Axes`.
        The panel of the loss is missing if the record has no loss.

    Raises:
        TypeError: If `source` is none of these.
        ValueError: If `source` has no recorded step, or `ax` has too few axes.
        ImportError: If matplotlib is not installed.
    """
    record = run_of(source).record
    if record.steps == 0:
        raise ValueError(
            "`source` must have recorded at least one step since the last cut. An "
            "`FDRCallback` keeps the record from before a cut at the end of `fit`. "
            f"Received: source={repr(source)[:200]}"
        )
    # The record of a single weight tensor does not have the loss.
    has_loss = "loss" in record.names and bool(
        np.isfinite(record.half_running_average("loss"))
    )
    panels = ["loss"] * (has_loss and not _is_single(ax)) + ["dissipation, fluctuation"]
    figure, axes = panels_on(ax, panels, (6.4, 1.6 + 2.4 * len(panels)), sharex=True)
    if len(panels) == 2:
        mean: Any = {"color": "lightgreen", "lw": 0.8, "label": "mini-batch"}
        axes[0].plot(*record.block_means("loss"), **mean)
        axes[0].plot(*record.series("loss"), color="darkgreen", label="half-running")
        axes[0].set(ylabel="mini-batch loss", xscale="log")
        axes[0].legend(frameon=False)
    _draw_sides(axes[-1], record)
    finish(figure, axes, ax, path, title)
    return figure, np.array(axes)


def schedule(
    source: Any,
    path: str | os.PathLike[str] | None = None,
    title: str | None = None,
    colors: Sequence[Any] | None = None,
    ax: Any = None,
) -> "tuple[Figure, np.ndarray]":
    """Draws runs against epochs, figure 4 of the paper.

    The panels are, from top to bottom: the learning rate η; the loss; the accuracy; and
    the ratio of the two sides of FDR1. Training curves are solid, validation curves are
    dashed. The loss and the accuracy of full-batch passes are drawn instead of the
    averages over an epoch, if the logs have them. A panel that no run has a column for
    is left out. A thin vertical line marks each cut in every panel.

    Example:

    >>> from keras_fdr import plots
    >>> run = {"learning_rate": [0.1, 0.09], "loss": [2.0, 1.5], "fdr_ratio": [9, 1]}
    >>> figure, axes = plots.schedule(run)
    >>> len(axes)
    3
    >>> figure, axes = plots.schedule({"first": run, "second": run})

    Args:
        source: A `keras.callbacks.History`, an `FDRCallback` or model after `fit`, the
            logs of epochs as a dictionary of lists, or the path of a file that
            `keras.callbacks.CSVLogger` wrote. To compare runs, pass a dictionary
            from a label to one of these.
        path: Where to write the picture. The file's ending sets the format.
            Defaults to `None`, no file.
        title: String above the picture. Defaults to `None`.
        colors: List of matplotlib colours, one a run. Defaults to `None`, the colours
            of its cycle.
        ax: A list of matplotlib `Axes`, one for each panel. Defaults to `None`, a new
            figure.

    Returns:
        `(figure, axes)`: the `matplotlib.figure.Figure` and an array of its `Axes`.

    Raises:
        TypeError: If `source` is none of these.
        ValueError: If no run has a column to draw, or if `colors` or `ax` are too few.
        ImportError: If matplotlib is not installed.
    """
    runs = _runs(source)
    known = set().union(*(run.logs for run in runs.values()))
    drawn = [p for p in _panels(known) if known & {*p.columns, *p.validation}]
    if not drawn:
        raise ValueError(
            "`source` must have logs with at least one of `learning_rate`, `loss`, an "
            f"accuracy and `fdr_ratio`. Received: columns {sorted(known)} of "
            f"source={repr(source)[:200]}"
        )
    colors = [f"C{number}" for number in range(len(runs))] if colors is None else colors
    if len(colors) < len(runs):
        raise ValueError(
            f"`colors` must have one colour a run, here {len(runs)}. "
            f"Received: colors={colors}"
        )
    names = [panel.ylabel for panel in drawn]
    figure, axes = panels_on(ax, names, (6.4, 1 + 2 * len(drawn)), sharex=True)
    for axis, panel in zip(axes, drawn, strict=True):
        for (label, run), color in zip(runs.items(), colors, strict=False):
            for columns, style in (
                (panel.columns, _TRAINING),
                (panel.validation, _VALIDATION),
            ):
                _draw_curve(axis, run, columns, color, style | {"label": label})
        _finish_panel(axis, panel, several=len(runs) > 1)
    if len(runs) > 1:
        _name_runs(axes[0])
    for run in runs.values():
        mark_cuts(axes, run.cut_epochs)
    axes[-1].set_xlabel("epochs")
    finish(figure, axes, ax, path, title)
    return figure, np.array(axes)


def _is_single(ax: Any) -> bool:
    return ax is not None and not isinstance(ax, Sequence) and np.ndim(ax) == 0


def _draw_sides(axis: "Axes", record: Record) -> None:
    for name, side, style in (("dissipation", "L", ":"), ("fluctuation", "R", "-")):
        label = rf"{name} $\overline{{O}}_{side}$"
        axis.plot(*record.series(name), style, label=label)
    axis.set(xlabel="steps t", ylabel="half-running average")
    axis.set_xscale("log")
    # O_L is noisy in a short record, and can be negative there.
    axis.set_yscale("log", nonpositive="mask")
    axis.legend(frameon=False)
    if np.isfinite(record.learning_rate):
        axis.set_title(rf"$\eta$ = {record.learning_rate:.4g}", fontsize="medium")


def _runs(source: Any) -> dict[str, Run]:
    """The runs to draw, under their labels."""
    if isinstance(source, Mapping) and not any(map(_is_column, source.values())):
        return {str(label): run_of(one) for label, one in source.items()}
    return {"": run_of(source)}


def _is_column(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray))


def _panels(known: set[str]) -> list[_Panel]:
    """The panels, with the column that the metrics of these runs have."""
    metrics = sorted(
        name
        for name in known
        if name.endswith(("accuracy", "acc")) and not name.startswith(("val", "full"))
    )
    metric = "accuracy" if "accuracy" in known or not metrics else metrics[0]
    columns = (f"full_batch_{metric}", metric)
    accuracy = _Panel(metric.replace("_", " "), "linear", columns, (f"val_{metric}",))
    return [_RATE, _LOSS, accuracy, _RATIO]


def _draw_curve(
    axis: "Axes", run: Run, columns: Sequence[str], color: Any, style: dict[str, Any]
) -> None:
    values = next((run.logs[name] for name in columns if name in run.logs), None)
    if values is None:
        return
    # An epoch without a full-batch pass has NaN here.
    known = np.flatnonzero(np.isfinite(values))
    if columns == _RATE.columns:
        style = style | {"drawstyle": "steps-mid"}
    axis.plot(run.epochs[known], values[known], color=color, lw=1.2, **style)


def _finish_panel(axis: "Axes", panel: _Panel, several: bool) -> None:
    heights = [np.asarray(line.get_ydata()) for line in axis.lines]
    smallest = min((np.min(y) for y in heights if len(y)), default=1.0)
    scale: dict[str, Any] = {"value": panel.yscale}
    largest = max((np.max(y) for y in heights if len(y)), default=1.0)
    if smallest <= 0 and panel is _RATIO and largest > 10:
        scale = {"value": "symlog", "linthresh": 1}
    elif smallest <= 0:
        scale = {"value": "linear"}
    axis.set_ylabel(panel.ylabel)
    axis.set_yscale(**scale)
    if scale == {"value": "log"} and smallest == largest:
        # matplotlib would put a constant at the bottom of a decade.
        axis.set_ylim(smallest / 1.5, smallest * 1.5)
    if panel is _RATIO:
        axis.axhline(1, color="gray", lw=0.8)
    if any(line.get_linestyle() == "--" for line in axis.lines):
        _name_styles(axis, "0.3" if several else axis.lines[0].get_color())


def _name_runs(axis: "Axes") -> None:
    """A legend of the runs, next to one of the styles if there is one."""
    styles = axis.get_legend()
    lines = [line for line in axis.lines if line.get_linestyle() == "-"]
    axis.legend(handles=lines, frameon=False)
    if styles is not None:
        # A second legend would replace the first one.
        axis.add_artist(styles)


def _name_styles(axis: "Axes", color: Any) -> None:
    """A legend that says which lines are training and which are validation."""
    from matplotlib.lines import Line2D

    styles = {"training": _TRAINING, "validation": _VALIDATION}
    handles = [Line2D([], [], color=color, **style) for style in styles.values()]  # type: ignore[arg-type]
    axis.legend(handles, list(styles), frameon=False)
