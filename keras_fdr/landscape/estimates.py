"""Values with 95% confidence intervals from independent repetitions."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t


class Estimate(NamedTuple):
    """A value and its 95% confidence interval.

    Args:
        value: Float.
        low: Float, the lower end. NaN if there is only one repetition.
        high: Float, the upper end. NaN if there is only one repetition.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"

    def contains(self, number: float) -> bool:
        """Whether the interval holds a number."""
        return bool(self.low <= number <= self.high)

    def percent(self) -> str:
        """The value and the interval in percent, as `"+1.5% [+0.5, +2.5]"`."""
        value, low, high = (100 * number for number in self)
        return f"{value:+.1f}% [{low:+.1f}, {high:+.1f}]"


def mean(values: ArrayLike) -> Estimate:
    """The mean of independent values, with the interval of Student's t.

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

    The jackknife leaves out one repetition at a time. This removes the bias of order
    1/repetitions that the ratio of two means has. It also gives the spread of the
    ratio.

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


def minus_one(estimate: Estimate) -> Estimate:
    """The same estimate with 1 subtracted, such as the deviation of a ratio from 1."""
    return Estimate(*(number - 1 for number in estimate))


def _interval(value: float, standard_error: float, repetitions: int) -> Estimate:
    width = (
        t.ppf(0.975, repetitions - 1) * standard_error if repetitions > 1 else np.nan
    )
    return Estimate(float(value), float(value - width), float(value + width))
