"""The first and the last step of drawing every picture."""

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def check_matplotlib() -> None:
    """Refuses to draw without matplotlib.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Pictures need matplotlib: `pip install 'keras-fdr[plots]'`."
        ) from error


def panels_on(
    ax: Any, panels: Sequence[str], figsize: tuple[float, float], **layout: Any
) -> "tuple[Figure, list[Axes]]":
    """Finds the axes to draw on, or makes a figure with one below the other.

    Args:
        ax: An `Axes`, a sequence of `Axes` with one for each panel, or `None`.
        panels: List of strings, what the panels show, from top to bottom.
        figsize: Width and height in inches of a new figure.
        **layout: Arguments of `Figure.subplots` for a new figure.

    Returns:
        The figure and a list with one `Axes` for each panel.

    Raises:
        TypeError: If `ax` is none of these.
        ValueError: If there are fewer axes than panels.
        ImportError: If matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    if ax is None:
        figure = Figure(figsize=figsize, layout="constrained")
        made = figure.subplots(len(panels), 1, squeeze=False, **layout)
        return figure, list(made[:, 0])
    axes: list[Any] = list(ax.flat if hasattr(ax, "flat") else _iterated(ax))
    if not all(isinstance(one, Axes) for one in axes):
        raise TypeError(
            f"`ax` must be a matplotlib `Axes` or a list of them. Received: ax={ax!r}"
        )
    if len(axes) < len(panels):
        raise ValueError(
            f"`ax` must have one `Axes` for each panel, here {len(panels)}: "
            f"{', '.join(panels)}. Received: {len(axes)}"
        )
    return axes[0].figure, axes[: len(panels)]


def _iterated(axes: Any) -> Iterable[Any]:
    return axes if isinstance(axes, Iterable) else [axes]


def finish(
    figure: "Figure",
    axes: "Sequence[Axes]",
    ax: Any,
    path: str | os.PathLike[str] | None,
    title: str | None,
) -> None:
    """Makes log axes readable, adds the title and writes the file.

    Args:
        figure: The figure.
        axes: The axes that were drawn on.
        ax: The argument `ax` of the user. A title goes above the first of the user's
            axes, because the rest of the figure belongs to the user.
        path: Where to write the picture, or `None`.
        title: String, or `None`.
    """
    from keras_fdr.plots.ticks import readable_log_ticks

    for one in axes:
        for axis in (one.xaxis, one.yaxis):
            if axis.get_scale() == "log":
                readable_log_ticks(axis)
    if title and ax is None:
        figure.suptitle(title, fontsize="medium")
    elif title:
        axes[0].set_title(title, fontsize="medium")
    if path is not None:
        figure.savefig(path, dpi=150)


def mark_cuts(axes: "Sequence[Axes]", epochs: Sequence[int]) -> None:
    """Draws a thin vertical line behind the curves at the end of each epoch of a cut.

    Args:
        axes: The axes, which have epochs on x.
        epochs: Epochs with a cut at their end, counted from 1.
    """
    for axis in axes:
        for epoch in epochs:
            # The rate of the next epoch begins midway, as in the panel of the rates.
            axis.axvline(epoch + 0.5, color="0.8", lw=0.8, zorder=0, gid="cut")
