"""What every picture begins and ends with."""


def new_figure(figsize):
    """An empty figure; matplotlib is needed from here on only."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Pictures need matplotlib: `pip install 'keras-fdr[plots]'`."
        ) from error
    return Figure(figsize=figsize, layout="constrained")


def finish(figure, path, title):
    """Adds the title and writes the file, where asked for."""
    if title:
        figure.suptitle(title, fontsize="medium")
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def measuring_layer(source):
    """The `FDRObservables` of a model or an optimizer; anything else as it is."""
    for name in ("optimizer", "inner_optimizer", "observables"):
        source = getattr(source, name, source)
    return source
