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
        name: Of the files.
        title: Of the pictures.
        dataset: Name for `data.load`.
        normalize: How `data.load` scales the pixels.
        network: Function without arguments, the model; not compiled.
        momentum: μ in figures 1 to 3; in figure 4 it is 0.
        stages: (η, epochs) of figures 2 and 3 in the order of the paper.
        seeds: How many seeds the paper takes for them.
        default_scale: From a figure to the fraction of the paper's epochs for a
            first look in a few minutes.
        default_seeds: Of figures 2 and 3, for the same.
        default_examples: From a figure to the training images for the same; all
            where it says nothing.
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
