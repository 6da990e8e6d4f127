"""The checks of a sweep's arguments, before any training."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_fdr import _compat
from keras_fdr.arguments import check_integer, check_number
from keras_fdr.optimizer.sgd import FDRSGD

# A stage is a learning rate and a number of epochs.
Stage = tuple[float, int]

_PAIR = "`(learning_rate, epochs)`"


def check_stages(stages: Any) -> list[Stage]:
    """The stages of a sweep as a list of `(learning_rate, epochs)`.

    Raises:
        TypeError: If they are not a list of such pairs of numbers.
        ValueError: If there is no stage, or one is out of range.
    """
    if not isinstance(stages, Iterable) or isinstance(stages, (str, bytes, dict)):
        raise TypeError(
            f"`stages` must be a list of {_PAIR}. Received: stages={stages!r}"
        )
    stages = list(stages)
    if not stages:
        raise ValueError(
            "`stages` must have at least one stage. Received: stages=[], which has none"
        )
    # A drift needs two passes in the newest half of a stage, which takes three epochs.
    return [_check_pair(f"stages[{i}]", pair, 3) for i, pair in enumerate(stages)]


def check_initial(initial: Any) -> Stage | None:
    """The initial run of a sweep as `(learning_rate, epochs)`, or `None`.

    Raises:
        TypeError: If it is neither `None` nor a pair of numbers.
        ValueError: If one of the numbers is out of range.
    """
    return None if initial is None else _check_pair("initial", initial, 1)


def check_seeds(seeds: Any) -> list[int]:
    """The seeds of a sweep as a list of integers.

    Args:
        seeds: Integer, the number of seeds, or a list of different integers.

    Raises:
        TypeError: If `seeds` is neither.
        ValueError: If the list is empty, or a seed is negative or comes twice.
    """
    if isinstance(seeds, np.ndarray):
        seeds = seeds.tolist()
    if not isinstance(seeds, (list, tuple, range)):
        return list(range(check_integer("seeds", seeds, 1)))
    numbers = [check_integer(f"seeds[{i}]", s, 0) for i, s in enumerate(seeds)]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(
            "`seeds` must be at least one integer, and all must be different. "
            f"Received: seeds={seeds!r}"
        )
    return numbers


def check_mode(mode: Any) -> str:
    """How a sweep draws its batches.

    Raises:
        TypeError: If `mode` is not a string.
        ValueError: If `mode` is neither of the two modes.
    """
    rule = '`mode` must be "independent" or "paper". '
    if not isinstance(mode, str):
        raise TypeError(f"{rule}Received: mode={mode!r}")
    if mode not in ("independent", "paper"):
        raise ValueError(f"{rule}Received: mode={mode!r}")
    return mode


def check_full_batch_every(value: Any, stages: list[Stage]) -> int:
    """The epochs from one full-batch pass of a sweep to the next.

    Raises:
        TypeError: If `value` is not an integer.
        ValueError: If it leaves fewer than two passes in the newest half of a stage.
    """
    newest_half = min(epochs - epochs // 2 for _, epochs in stages)
    every = check_integer("full_batch_every", value, 1)
    if every >= newest_half:
        raise ValueError(
            "`full_batch_every` must leave two passes in the newest half of each "
            f"stage, here of {newest_half} epochs. Received: full_batch_every={every}"
        )
    return every


def _check_pair(name: str, pair: Any, least: int) -> Stage:
    """A learning rate and a number of epochs, at least `least`."""
    rule = (
        f"`{name}` must be {_PAIR}, a finite number above 0 and an integer, at least "
        f"{least}. "
    )
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(f"{rule}Received: {name}={pair!r}")
    try:
        rate = check_number("learning_rate", pair[0], 0)
        return rate, check_integer("epochs", pair[1], least)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{rule}Received: {name}={pair!r}") from error


def check_dynamics(optimizer: FDRSGD) -> None:
    """Refuses settings with which the gradient of a step is not ∇f^B.

    Here ∇f^B is the gradient of the loss of the mini-batch.

    Raises:
        ValueError: If the optimizer clips or accumulates gradients, or its learning
            rate follows a schedule.
    """
    for name in (
        "clipnorm",
        "clipvalue",
        "global_clipnorm",
        "gradient_accumulation_steps",
    ):
        value = getattr(optimizer, name)
        if value:
            raise ValueError(
                "FDR2 needs steps with the plain mini-batch gradient. Compile without "
                f"`{name}`. Received: {name}={value}"
            )
    schedule = _compat.learning_rate_schedule(optimizer)
    if schedule is not None:
        raise ValueError(
            "A sweep sets the learning rates itself. Give the optimizer a float. "
            f"Received: learning_rate={schedule}"
        )
