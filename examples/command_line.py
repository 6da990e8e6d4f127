"""The command line of `mnist_mlp.py` and `cifar10_cnn.py`, which hold the models."""

import argparse
import os
from pathlib import Path

from protocol import BATCH_SIZE, MODES

WHAT = {
    1: "A run becomes stationary at the learning rate 0.1 (FDR1), in 100 epochs.",
    2: "The two sides of FDR1 in sequential runs over learning rates.",
    3: "FDR2 against the learning rate, from the runs of figure 2.",
    4: "A preset and an adaptive schedule, in two runs of 400 epochs.",
}


def main(protocol, description, arguments=None):
    """Reads the command line and makes the figure.

    Args:
        protocol: The `Protocol` of a model.
        description: String that `--help` shows.
        arguments: List of strings. Defaults to `None`, the command line.
    """
    args = parse(protocol, description, arguments)
    # `--help` need not wait for TensorFlow, which takes seconds to import.
    from figures import make

    make(protocol, args)


def parse(protocol, description, arguments=None):
    """Parses the command line. `--figure 3 --help` shows the options of figure 3."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--figure", type=int, choices=WHAT, default=1)
    figure = first.parse_known_args(arguments)[0].figure

    parser = argparse.ArgumentParser(
        description=f"{description}\nFigure {figure}: {WHAT[figure]}\n"
        "The defaults below are for this figure.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def add(name, help, **settings):
        if "default" in settings:
            help += " (default: %(default)s)"
        parser.add_argument(f"--{name}", help=help, **settings)

    add("figure", "which figure to make", type=int, choices=WHAT, default=1)
    scale = protocol.default_scale[figure]
    add("scale", "fraction of the paper's epochs", type=_positive, default=scale)
    add(
        "examples",
        f"how many training images to use: at least {BATCH_SIZE}, or 0 for all",
        type=_examples,
        default=protocol.default_examples.get(figure, 0),
    )
    if figure in (2, 3):
        add(
            "seeds",
            "how many seeds to run",
            type=_count,
            default=protocol.default_seeds,
        )
        add(
            "mode",
            "how to draw batches: by shuffling in each epoch (paper), or independently",
            choices=MODES,
            default="paper",
        )
        add(
            "smallest-rate",
            "leave out stages with smaller learning rates, which take longest",
            type=_positive,
            default=min(eta for eta, _ in protocol.stages),
        )
    if figure != 1:
        add(
            "full-batch-every",
            "epochs from one full-batch pass to the next",
            type=_count,
            default=1,
        )
        cores = os.cpu_count()
        add(
            "processes", "how many processes share the runs", type=_count, default=cores
        )
    add("data-dir", "folder in which tensorflow-datasets keeps its data")
    add("output", "folder for all files that are written", type=Path, default=Path("."))
    add("resume", "resume the run that is in --output", action="store_true")
    add("draw", "only draw the results that are in --output", action="store_true")
    args = parser.parse_args(arguments)
    args.examples = args.examples or None
    return args


def _positive(text):
    if not 0 < (number := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"it must be above 0. Received: {text}")
    return number


def _examples(text):
    if (number := int(text)) and number < BATCH_SIZE:
        raise argparse.ArgumentTypeError(
            f"it must be 0 or at least {BATCH_SIZE}, one batch. Received: {text}"
        )
    return number


def _count(text):
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"it must be at least 1. Received: {text}")
    return number
