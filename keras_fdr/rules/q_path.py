"""The path of the quantity Q, whose drift FDR1 measures."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from arviz_stats.base import array_stats
from scipy.stats import t

from keras_fdr.record import Record

# With fewer effective samples, the spread of Q is not known well enough to be used.
MIN_EFFECTIVE_SAMPLES = 4


@dataclass(frozen=True)
class QPath:
    """Q along a window of a record, up to a constant.

    For every run, stationary or not, and without taking expectations,

        Σ_t (O_L − O_R) = −[Q(T) − Q(0)],
        Q = [(1−μ)/(2η) |θ−θ_c|² + μ (θ−θ_c)·v] / (1−ν).

    Here O_L is the dissipation and O_R the fluctuation of a step, the sum is over T
    steps, θ are the weights, θ_c is their centre, v the velocity, η the learning rate,
    μ the momentum and ν the dampening. So the running sum of O_R − O_L is the path of
    Q, and FDR1 asks whether Q has stopped drifting.

    Args:
        values: Float array of shape `(n + 1,)`: Q at the start of the window, where it
            is set to 0, and at the end of each of its n blocks.
        steps: Integer, the steps of the window.
        mean_fluctuation: Float, the mean of O_R over the window.
    """

    values: np.ndarray
    steps: int
    mean_fluctuation: float

    @classmethod
    def of(cls, record: Record) -> "QPath":
        """The path over the window of a record's half-running averages."""
        first = record.window_start // record.block_length
        columns = [record.names.index(n) for n in ("dissipation", "fluctuation")]
        left, right = record.sums[first:, columns].T
        values = np.concatenate([[0.0], np.cumsum(right - left)])
        steps = record.steps - record.window_start
        return cls(values, steps, float(right.sum() / steps))

    @cached_property
    def effective_sample_size(self) -> float:
        """How many independent values the path is worth, at least 1."""
        return effective_sample_size(self.values)

    @property
    def is_trend(self) -> bool:
        """Whether Q moves one way all through the window.

        It does if the means of both halves differ by more than 2 of their spreads. For
        a straight line they differ by 3.5, however few values it is worth.
        """
        first, second = np.array_split(self.values, 2)
        spread = math.sqrt((first.var() + second.var()) / 2)
        return bool(abs(second.mean() - first.mean()) > 2 * spread)

    def ratio_error(self) -> float:
        """The standard error of the ratio in a stationary state, its noise floor.

        The mean of O_L − O_R over the window from t0 to T is −[Q(T) − Q(t0)]/(T − t0).
        If Q is stationary and the window long, its two ends are independent. Then the
        variance of this mean is 2 Var(Q)/(T − t0)², so the error falls as 1/T, not as
        1/√T. Since Var(Q) is estimated, the error is enlarged by Student's t, so that
        95% of ratios are within 1.96 errors of 1.

        Returns:
            Float. NaN if the window is worth too few independent values.
        """
        size = self.effective_sample_size
        if size < MIN_EFFECTIVE_SAMPLES:
            return math.nan
        # The spread around the sample mean leaves out the variance of the mean,
        # Var(Q)/n with n the effective sample size. It is added back here.
        variance = self.values.var() / (1 - 1 / size)
        error = math.sqrt(2 * variance) / (self.steps * self.mean_fluctuation)
        return float(error * t.ppf(0.975, size - 1) / 1.96)


def effective_sample_size(values: np.ndarray) -> float:
    """How many independent values a series is worth for its mean, at least 1."""
    if len(values) < MIN_EFFECTIVE_SAMPLES or np.ptp(values) == 0:
        return 1.0
    size = array_stats.ess(values, chain_axis=None, draw_axis=-1, method="mean")
    return float(np.clip(size, 1.0, len(values)))
