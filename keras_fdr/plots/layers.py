"""A picture of FDR1 for every weight tensor, against steps."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_fdr.plots.figures import finish, panels_on
from keras_fdr.plots.sources import run_of
from keras_fdr.record import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def layers(
    source: Any,
    path: str | os.PathLike[str] | None = None,
    title: str | None = None,
    ax: Any = None,
) -> "tuple[Figure, Axes]":
    """Draws the ratio of FDR1 for every weight tensor against steps, as a heat map.

    A row is a weight tensor. The colour of a cell is the half-running ratio of the two
    sides of FDR1, Ō_L/Ō_R, after t steps. The scale is logarithmic from 0.1 to 10, and
    values beyond it have the colours of its ends. White is 1, the value in a stationary
    state. Red is above 1: the loss still pulls the weights inward. Blue is below 1, or
    negative: the weights still grow. Grey means that the ratio is undefined because the
    tensor does not move.

    Example:

    >>> import numpy as np
    >>> from keras_fdr import Record, plots
    >>> names = ("dissipation", "fluctuation")
    >>> rows = np.random.default_rng(0).uniform(1.0, 2.0, (2, 100, 2))
    >>> records = {
    ...     "dense/kernel": Record(rows[0], steps=100, names=names),
    ...     "dense/bias": Record(rows[1], steps=100, names=names)}
    >>> figure, axis = plots.layers(records)
    >>> [label.get_text() for label in axis.get_yticklabels()]
    ['dense/kernel', 'dense/bias']

    Args:
        source: Dictionary from a name to a `Record`, as
            `FDRObservables.record_by_variable` gives it; an `FDRObservables` with
            `per_variable=True`; or an optimizer, model, `FDRCallback` or
            `keras.callbacks.History` that has one.
        path: Where to write the picture. The file's ending sets the format.
            Defaults to `None`, no file.
        title: String above the picture. Defaults to `None`.
        ax: A matplotlib `Axes`. Defaults to `None`, a new figure.

    Returns:
        `(figure, axis)`: the `matplotlib.figure.Figure` and the `Axes` of the heat map.

    Raises:
        TypeError: If `source` is none of these.
        ValueError: If `source` has not recorded a step yet, if its records are not of
            the same steps, or if it was created without `per_variable=True`.
        ImportError: If matplotlib is not installed.
    """
    records = _as_records(source)
    steps = _common_steps(records)
    ratios = np.stack([_ratio(record) for record in records.values()])
    figure, [axis] = panels_on(ax, ["layers"], (6.4, 1.4 + 0.22 * len(records)))
    # This import comes after `panels_on`, which says what to install.
    from matplotlib import colormaps

    mesh = axis.pcolormesh(
        _edges(steps),
        np.arange(len(records) + 1) - 0.5,
        np.log10(np.clip(ratios, 0.1, 10)),
        cmap=colormaps["RdBu_r"].with_extremes(bad="0.6"),
        vmin=-1,
        vmax=1,
        rasterized=True,
    )
    axis.set_yticks(range(len(records)), list(records), fontsize="x-small")
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="steps t")
    bar = figure.colorbar(mesh, ax=axis, extend="both")
    ticks = [0.1, 0.3, 1, 3, 10]
    bar.set_ticks(np.log10(ticks).tolist(), labels=[f"{tick:g}" for tick in ticks])
    bar.set_label(r"$\overline{O}_L / \overline{O}_R$")
    eta = next(iter(records.values())).learning_rate
    if np.isfinite(eta):
        axis.set_title(rf"$\eta$ = {eta:.4g}", fontsize="medium")
    finish(figure, [axis], ax, path, title)
    return figure, axis


def _as_records(source: Any) -> Mapping[str, Record]:
    if isinstance(source, Mapping):
        if not all(isinstance(record, Record) for record in source.values()):
            raise TypeError(
                "`source` must be a dictionary from names to `Record`s, or what was "
                "measured with `per_variable=True`. "
                f"Received: source={repr(source)[:200]}"
            )
        return source
    records = run_of(source).by_variable
    if not records:
        raise ValueError(
            "`source` must have recorded a step of each weight tensor since the last "
            "cut. Use `FDRObservables(per_variable=True)` or "
            "`measure(model, per_variable=True)`. "
            f"Received: source={repr(source)[:200]}"
        )
    return records


def _common_steps(records: Mapping[str, Record]) -> np.ndarray:
    """The last step of each block, which must be the same for all records."""
    ends = [record.series("dissipation")[0] for record in records.values()]
    if not ends or len(ends[0]) == 0:
        raise ValueError("`source` must have recorded a step. Received: none yet")
    if any(not np.array_equal(ends[0], other) for other in ends):
        received = {record.steps for record in records.values()}
        raise ValueError(
            "The records of `source` must be of the same steps, in equal blocks. "
            f"Received: steps={sorted(received)}"
        )
    return ends[0]


def _ratio(record: Record) -> np.ndarray:
    """Ō_L/Ō_R at the end of each block. It is NaN where it is undefined."""
    left, right = (record.series(name)[1] for name in ("dissipation", "fluctuation"))
    defined = np.isfinite(left) & np.isfinite(right) & (right > 0)
    return np.divide(left, right, out=np.full_like(left, np.nan), where=defined)


def _edges(steps: np.ndarray) -> np.ndarray:
    """The edges of cells around the ends of blocks, positive for the log axis."""
    middle = (steps[1:] + steps[:-1]) / 2
    last = steps[-1] + (steps[-1] - middle[-1] if len(middle) else steps[-1] / 2)
    return np.concatenate([[steps[0] / 2], middle, [last]])
