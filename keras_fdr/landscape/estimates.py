"""Values with 95% intervals from independent repetitions."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t


class Estimate(NamedTuple):
    """A value and its 95% interval.

    Args:
        value: Float.
        low: Float, the lower end; NaN where there is one repetition only.
        high: Float, the upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"

    def contains(self, number: float) -> bool:
        """Whether the interval holds a number."""
        return bool(self.low <= number <= self.high)


def mean(values: ArrayLike) -> Estimate:
    """The mean of independent values, with Student's t interval.

    Example:

    >>> print(mean([1.0, 2.0, 3.0]))
    2 [-0.4841, 4.484]

    Args:
        values: Float array of shape `(repetitions,)`.

    Returns:
        An `Estimate`.
    """
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    spread = values.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return _interval(values.mean(), spread, n)


def ratio(numerators: ArrayLike, denominators: ArrayLike) -> Estimate:
    """The ratio of two means over the same repetitions, by the jackknife.

    Leaving out one repetition at a time removes the bias of order 1/repetitions
    that a mean of ratios has, and gives the spread of a ratio of means.

    Example:

    >>> print(ratio([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]))
    2 [2, 2]

    Args:
        numerators: Float array of shape `(repetitions,)`.
        denominators: Float array of the same shape.

    Returns:
        An `Estimate`.
    """
    a = np.asarray(numerators, dtype=np.float64)
    b = np.asarray(denominators, dtype=np.float64)
    n, whole = len(a), a.mean() / b.mean()
    if n == 1:
        return _interval(whole, np.nan, n)
    without = (a.sum() - a) / (b.sum() - b)
    pseudo = n * whole - (n - 1) * without
    return _interval(pseudo.mean(), pseudo.std(ddof=1) / np.sqrt(n), n)


def _interval(value: float, standard_error: float, repetitions: int) -> Estimate:
    width = (
        t.ppf(0.975, repetitions - 1) * standard_error if repetitions > 1 else np.nan
    )
    return Estimate(float(value), float(value - width), float(value + width))
