"""What differs between the two models of the paper, without TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

BATCH_SIZE = 100
MODES = ("paper", "independent")


@dataclass(frozen=True)
class Protocol:
    """What differs between the two models of the paper.

    Args:
        name: The name with which all files begin.
        title: The title of the pictures.
        dataset: The name of the dataset in `data.load`.
        normalize: How `data.load` scales the pixels.
        network: Function without arguments that returns the model, not compiled.
        momentum: The momentum in figures 1 to 3. In figure 4 it is 0.
        stages: Pairs of a learning rate and a number of epochs, for figures 2 and 3 in
            the order of the paper.
        seeds: How many seeds the paper runs for figures 2 and 3.
        default_scale: For each figure, the fraction of the paper's epochs that gives a
            first look in a few minutes.
        default_seeds: How many seeds figures 2 and 3 run for this first look.
        default_examples: For a figure, how many training images it uses for this first
            look. A figure that is not listed uses all of them. Defaults to none.
    """

    name: str
    title: str
    dataset: str
    normalize: str
    network: Callable[[], keras.Model]
    momentum: float
    stages: tuple[tuple[float, int], ...]
    seeds: int
    default_scale: dict[int, float]
    default_seeds: int
    default_examples: dict[int, int] = field(default_factory=dict)
