"""The checks of the arguments of a `Record`."""

from typing import Any

import numpy as np


def as_floats(name: str, numbers: Any) -> np.ndarray:
    """Numbers as a float64 array.

    Raises:
        TypeError: If they are not an array of real numbers.
    """
    try:
        values = np.asarray(numbers)
    except ValueError:  # The rows have different lengths.
        values = np.empty(0, dtype=object)
    if values.dtype.kind not in "iuf":
        raise TypeError(
            f"`{name}` must be an array of real numbers. "
            f"Received: {name}={repr(numbers)[:200]}"
        )
    return values.astype(np.float64, copy=False)


def as_names(names: Any) -> tuple[str, ...]:
    """The names of columns as a tuple.

    Raises:
        TypeError: If they are not a tuple or list of strings.
        ValueError: If a name comes twice.
    """
    is_sequence = isinstance(names, (tuple, list))
    if not is_sequence or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"`names` must be a tuple of strings. Received: names={names!r}"
        )
    if len(set(names)) < len(names):
        raise ValueError(f"`names` must be different. Received: names={names!r}")
    return tuple(names)


def as_rates(rates: Any, blocks: int) -> np.ndarray | None:
    """The learning rates of each block as a float64 array, or `None`.

    Raises:
        TypeError: If they are neither `None` nor an array of real numbers.
        ValueError: If there is not one for each block.
    """
    if rates is None:
        return None
    rates = as_floats("learning_rates", rates)
    if rates.shape != (blocks,):
        raise ValueError(
            "`learning_rates` must have one rate for each block, so shape "
            f"{(blocks,)}. Received: learning_rates.shape={rates.shape}"
        )
    return rates
