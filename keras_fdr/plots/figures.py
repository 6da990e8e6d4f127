"""The first and the last step of drawing every picture."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(figsize: tuple[float, float]) -> "Figure":
    """Creates an empty figure. Only this function needs matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Pictures need matplotlib: `pip install 'keras-fdr[plots]'`."
        ) from error
    return Figure(figsize=figsize, layout="constrained")


def finish(
    figure: "Figure", path: str | os.PathLike[str] | None, title: str | None
) -> "Figure":
    """Adds the title and writes the file, where these are given."""
    if title:
        figure.suptitle(title, fontsize="medium")
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def measuring_layer(source: Any) -> Any:
    """The `FDRObservables` of a model or an optimizer, or the object itself."""
    for name in ("optimizer", "inner_optimizer", "observables"):
        source = getattr(source, name, source)
    return source
