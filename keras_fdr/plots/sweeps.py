"""Figures 2 and 3 of the paper, from sweeps over learning rates."""

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_fdr.landscape.estimates import Estimate
from keras_fdr.landscape.judgement import EQUILIBRATED_WITHIN, is_equilibrated
from keras_fdr.landscape.regression import Landscape, fit
from keras_fdr.landscape.results import SweepResults
from keras_fdr.plots.figures import finish, panels_on

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The legend stands to the right of the axes.
BESIDE: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)}


def landscape(
    landscapes: Any,
    path: str | os.PathLike[str] | None = None,
    title: str | None = None,
    ax: Any = None,
) -> "tuple[Figure, np.ndarray]":
    """Draws FDR2 against the learning rate, figure 3 of the paper.

    The upper panel has ⟨O_FB⟩, the left side of FDR2, at each learning rate η with its
    95% interval over seeds. It also has the paper's line through the origin and the
    point of the smallest η. The lower panel has the distance of each point from this
    line (nonlinearity) and from (η/2)⟨vᵀHv⟩ (residual). The residual is 0 for every
    quadratic loss.

    Open symbols mark stages that were not yet stationary. In these, over 5% of O_FB
    came from a loss that still fell, or the ratio of the two sides of FDR1 differed
    from 1. The ratio counts as different if its whole interval is beyond 1 ± 5%.
    Without an interval the ratio itself counts.

    Example:

    >>> from keras_fdr import landscape, plots
    >>> settings = {"mode": "independent", "momentum": 0.0, "dampening": 0.0}
    >>> rows = [
    ...     landscape.SweepRow(
    ...         seed, stage, rate, full_batch_dissipation=(3 + 0.5 * seed) * rate,
    ...         velocity_curvature=6.0 + seed, noise_curvature=6.0 + seed,
    ...         gradient_norm_squared=2.0, full_batch_drift=0.0,
    ...         dissipation=rate, fluctuation=rate)
    ...     for seed in (0, 1) for stage, rate in enumerate((0.1, 0.2))]
    >>> found = landscape.fit(landscape.SweepResults(settings, rows))
    >>> figure, axes = plots.landscape(found)
    >>> len(axes)
    2

    Args:
        landscapes: A `Landscape`; `SweepResults`, or the path of a sweep; or a
            dictionary from a label to one of these, to compare.
        path: Where to write the picture. The file's ending sets the format.
            Defaults to `None`, no file.
        title: String above the picture. Defaults to `None`.
        ax: A list of two matplotlib `Axes`. Defaults to `None`, a new figure.

    Returns:
        `(figure, axes)`: the `matplotlib.figure.Figure` and an array of its two `Axes`.

    Raises:
        TypeError: If `landscapes` is none of these.
        ValueError: If `ax` has fewer than two axes.
        ImportError: If matplotlib is not installed.
    """
    if not isinstance(landscapes, Mapping):
        landscapes = {None: landscapes}
    names = ["O_FB", "relative deviation"]
    figure, [top, bottom] = panels_on(
        ax, names, (8.8, 7.2), sharex=True, height_ratios=(3, 2)
    )
    lines = []
    for number, (label, source) in enumerate(landscapes.items()):
        found = source if isinstance(source, Landscape) else fit(source)
        color = f"C{number}"
        named = "" if label is None else f"{label}: "
        _points(top, found, found.full_batch_dissipation, color, "o", f"{named}O_FB")
        ends = np.array([0.0, found.learning_rates[-1]])
        lines.append((ends, found.slope.value * ends, color))
        _points(bottom, found, found.residual, color, "o", f"{named}residual")
        _points(bottom, found, found.nonlinearity, color, "x", f"{named}nonlinearity")
    # The points alone set the limits, so that a noisy slope cannot rescale the axis.
    low, high = top.get_ylim()
    for ends, heights, color in lines:
        top.plot(ends, heights, color=color, lw=0.8)
    top.set_ylim(min(low, 0), high)
    if max(np.abs(bottom.get_ylim())) > 1:
        bottom.set_yscale("symlog", linthresh=0.2)
    bottom.axhline(0, color="gray", lw=0.8)
    top.set(ylabel=r"$\langle O_{FB} \rangle$")
    bottom.set(xlabel=r"learning rate $\eta$", ylabel="relative deviation")
    for axis in (top, bottom):
        # Next to the axes, the legend cannot cover an error bar.
        axis.legend(frameon=False, fontsize="small", **BESIDE)
    finish(figure, [top, bottom], ax, path, title)
    return figure, np.array([top, bottom])


def sequential_runs(
    results: SweepResults | str | os.PathLike[str],
    seed: int | None = None,
    path: str | os.PathLike[str] | None = None,
    title: str | None = None,
    ax: Any = None,
) -> "tuple[Figure, Axes]":
    """Draws the stages of one seed, figure 2 of the paper.

    The picture has the half-running averages of O_L (dotted) and O_R (solid), the two
    sides of FDR1, against the step t. Each learning rate η has its own colour. The two
    lines meet in a stationary state, which takes longer at a smaller η. If they are
    more than 5% apart at the end of a stage, the legend has their ratio.

    Example:

    >>> from keras_fdr import landscape, plots
    >>> series = {"steps": [1, 2], "dissipation": [3.0, 1.1], "fluctuation": [1.0, 1]}
    >>> row = landscape.SweepRow(0, 0, 0.1, series=series)
    >>> figure, axis = plots.sequential_runs(landscape.SweepResults({}, [row]))
    >>> len(axis.lines)
    2

    Args:
        results: `SweepResults`, or the path of a sweep.
        seed: Integer, which seed to draw. Defaults to `None`, the first.
        path: Where to write the picture. The file's ending sets the format.
            Defaults to `None`, no file.
        title: String above the picture. Defaults to `None`.
        ax: A matplotlib `Axes`. Defaults to `None`, a new figure.

    Returns:
        `(figure, axis)`: the `matplotlib.figure.Figure` and its `Axes`.

    Raises:
        TypeError: If `results` is none of these.
        ValueError: If the seed has no finished stage.
        ImportError: If matplotlib is not installed.
    """
    table = SweepResults.of(results)
    seeds = [row.seed for row in table.rows]
    seed = seeds[0] if seed is None and seeds else seed
    rows = [row for row in table.rows if row.seed == seed]
    if not rows:
        raise ValueError(
            f"`seed` must be one that has finished a stage: {sorted(set(seeds))}. "
            f"Received: seed={seed}"
        )
    many = len(rows) > 6
    figure, [axis] = panels_on(ax, ["stages"], (8.8 if many else 6.4, 4.8))
    # This import comes after `panels_on`, which says what to install.
    from matplotlib import colormaps

    # Up to ten stages take the usual ten colours, more stages a colour map.
    spread = colormaps["turbo"](np.linspace(0.05, 0.95, len(rows)))
    colors = spread if len(rows) > 10 else [f"C{i}" for i in range(len(rows))]
    for row, color in zip(rows, colors, strict=True):
        series = row.series
        label = rf"$\eta$ = {row.learning_rate:.4g}"
        met = series["dissipation"][-1] / series["fluctuation"][-1]
        if not abs(met - 1) <= EQUILIBRATED_WITHIN:
            label += rf", not met: $\overline{{O}}_L/\overline{{O}}_R$ = {met:.3g}"
        axis.plot(series["steps"], series["fluctuation"], color=color, label=label)
        axis.plot(series["steps"], series["dissipation"], ":", color=color)
    axis.set(xscale="log", xlabel="steps t in the stage")
    # O_L is noisy at the beginning of a stage, and can be negative there.
    axis.set_yscale("log", nonpositive="mask")
    axis.set_ylabel(r"$\overline{O}_L$ (dotted), $\overline{O}_R$ (solid)")
    axis.legend(frameon=False, fontsize="small", **(BESIDE if many else {}))
    finish(figure, [axis], ax, path, title)
    return figure, axis


def _points(
    axis: "Axes",
    found: Landscape,
    estimates: Iterable[Estimate],
    color: str,
    marker: str,
    label: str | None,
) -> None:
    """Draws points with error bars, open where the stage was not stationary yet."""
    filled_ones = map(is_equilibrated, found.drift, found.ratio)
    points = zip(found.learning_rates, estimates, filled_ones, strict=True)
    for eta, estimate, filled in points:
        value, low, high = estimate
        # A single seed has no interval.
        bars = None if np.isnan(low) else [[value - low], [high - value]]
        face = color if filled or marker == "x" else "none"
        style: dict[str, Any] = {
            "color": color,
            "marker": marker,
            "mfc": face,
            "capsize": 2,
            "ms": 5,
        }
        axis.errorbar(eta, value, bars, linestyle="none", label=label, **style)
        label = None
