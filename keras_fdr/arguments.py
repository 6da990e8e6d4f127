"""Checks of single arguments, with messages of one form.

Every check returns the value as a plain Python object, so that a configuration can be
written as JSON. The messages state the rule and then what was received.
"""

import math
import numbers
import os
from typing import Any

import numpy as np


def is_number(value: Any) -> bool:
    """Whether a value is a real number of Python or NumPy, and not a boolean."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    low_allowed: bool = False,
    high_allowed: bool = False,
) -> float:
    """Checks that an argument is a finite number within its limits.

    Args:
        name: String, the argument's name.
        value: What was passed.
        low: Float, the lower limit. Defaults to none.
        high: Float, the upper limit. Defaults to none.
        low_allowed: Boolean, whether `low` itself is allowed. Defaults to `False`.
        high_allowed: Boolean, whether `high` itself is allowed. Defaults to `False`.

    Returns:
        The number as a Python float.

    Raises:
        TypeError: If `value` is not a real number of Python or NumPy.
        ValueError: If `value` is NaN, infinite or outside the limits.
    """
    least = f"at least {low:g}" if low_allowed else f"above {low:g}"
    most = f"at most {high:g}" if high_allowed else f"below {high:g}"
    limits = [
        words for words, limit in ((least, low), (most, high)) if not math.isinf(limit)
    ]
    within = " and ".join(limits)
    rule = f"a finite number {within}".rstrip()
    if not is_number(value):
        raise TypeError(_message(name, rule, value))
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(_message(name, rule, value))
    above = low < number or (low_allowed and number == low)
    below = number < high or (high_allowed and number == high)
    if not (above and below):
        raise ValueError(_message(name, within, value))
    return number


def check_integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Checks that an argument is an integer within its limits, which are allowed.

    Args:
        name: String, the argument's name.
        value: What was passed.
        low: Integer, the least value.
        high: Integer, the largest value. Defaults to `None`, no limit.

    Returns:
        The number as a Python integer.

    Raises:
        TypeError: If `value` is not an integer of Python or NumPy.
        ValueError: If `value` is outside the limits.
    """
    rule = f"an integer, at least {low}"
    if high is not None:
        rule += f" and at most {high}"
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(_message(name, rule, value))
    number = int(value)
    if number < low or (high is not None and number > high):
        raise ValueError(_message(name, rule, value))
    return number


def check_boolean(name: str, value: Any) -> bool:
    """Checks that an argument is `True` or `False`, of Python or NumPy.

    Args:
        name: String, the argument's name.
        value: What was passed.

    Returns:
        The value as a Python boolean.

    Raises:
        TypeError: If `value` is neither.
    """
    # NumPy's boolean is not a Python one.
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(_message(name, "True or False", value))
    return bool(value)


def check_verbosity(value: Any) -> int:
    """Checks the argument `verbose`, for which `True` and `False` mean 1 and 0.

    Args:
        value: What was passed.

    Returns:
        The value as a Python integer.

    Raises:
        TypeError: If `value` is neither an integer nor a boolean.
        ValueError: If it is negative.
    """
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    return check_integer("verbose", value, 0)


def check_callable(name: str, value: Any, rule: str) -> None:
    """Checks that an argument is a function, or `None`.

    Args:
        name: String, the argument's name.
        value: What was passed.
        rule: String, what the function must be, for the message.

    Raises:
        TypeError: If `value` cannot be called.
    """
    if value is not None and not callable(value):
        raise TypeError(_message(name, rule, value))


def check_path(name: str, value: Any, kind: str = "file") -> str:
    """Checks that an argument names a file or a directory.

    Args:
        name: String, the argument's name.
        value: What was passed.
        kind: String, what the path leads to, for the message. Defaults to `"file"`.

    Returns:
        The path as a string.

    Raises:
        TypeError: If `value` is neither a string nor a path object.
        ValueError: If it is empty.
    """
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    rule = f"a {kind} name or a path object"
    if not isinstance(path, str):
        raise TypeError(_message(name, rule, value))
    if not path:
        raise ValueError(_message(name, f"{rule}, not empty", value))
    return path


def _message(name: str, rule: str, value: Any) -> str:
    return f"`{name}` must be {rule}. Received: {name}={value!r}"
