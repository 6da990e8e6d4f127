"""The distance test of Pesme et al.: how fast the weights leave their start."""

import math
from dataclasses import dataclass

import numpy as np

from keras_fdr.arguments import check_integer, check_number
from keras_fdr.record import Record
from keras_fdr.rules.base import Finding, Rule


@dataclass(frozen=True)
class DistanceRule(Rule):
    """Tests how the squared distance from the start of the record grows.

    θ₀ are the weights θ when the record began, at step t = 0. The statistic compares
    the steps q^k and q^{k+1}. It is the slope of |θ−θ₀|² in a log-log plot,

        S = log(|θ(q^{k+1}) − θ₀|² / |θ(q^k) − θ₀|²) / log q.

    S is 2 while the weights move along the gradient, 1 while they diffuse, and 0 when
    the noise no longer takes them farther. The run is called stationary when S is below
    `threshold`, at the newest complete pair of steps with k ≥ `first`.

    The record has Q, the running sum of the fluctuation minus the dissipation (see
    `DriftRule`). Q contains the distance from a centre θ_c. With
    `FDRObservables(center="initial")` this centre is θ₀. Then Q is 0 at the start, and

        Q = |θ−θ₀|² (1−μ)/(2η(1−ν)) + μ (θ−θ₀)·v/(1−ν),

    with the learning rate η, the momentum μ, the dampening ν and the velocity v. So at
    μ = 0 the slope of Q is exactly S. With momentum the second term changes Q by the
    share 2ημ (θ−θ₀)·v/((1−μ)|θ−θ₀|²), some percent after a few hundred steps.

    With another centre the record does not hold the distance. Then Q can be below 0,
    which makes the verdict undecided.

    Example:

    >>> import numpy as np
    >>> rows = np.tile([1.0, 2.0], (2000, 1))  # Q grows by 1 a step
    >>> names = ("dissipation", "fluctuation")
    >>> print(DistanceRule()(Record(rows, steps=2000, names=names)).reason)
    |θ−θ₀|² grew as the power 1.00 of t from step 985 to 1,478; the rule waits until \
the power is below 0.6.

    Args:
        q: Float above 1, from one step of the test to the next. Defaults to `1.5`.
        threshold: Float above 0. Defaults to `0.6`.
        first: Integer, at least 1, the first k. Defaults to `5`.

    Call arguments:
        record: A `Record` of a run with `FDRObservables(center="initial")`.

    Returns:
        A `Verdict`.

    Raises:
        TypeError: If an argument is of another type, or `record` is not a `Record`.
        ValueError: If an argument is out of range.

    Reference:
        [Pesme et al., 2020](https://arxiv.org/abs/2007.00534).
    """

    q: float = 1.5
    threshold: float = 0.6
    first: int = 5

    def __post_init__(self) -> None:
        self._set("q", check_number("q", self.q, low=1))
        self._set("threshold", check_number("threshold", self.threshold, low=0))
        self._set("first", check_integer("first", self.first, low=1))

    def judge(self, record: Record) -> Finding:
        """What the rule finds in a record (see the class)."""
        # Q is known at the ends of complete blocks.
        whole = record.steps // record.block_length
        last = math.floor(
            math.log(max(whole, 1) * record.block_length) / math.log(self.q)
        )
        if last - 1 < self.first:
            needed = math.ceil(self.q ** (self.first + 1))
            return Finding("undecided", f"The rule needs {needed:,} steps.")
        columns = [record.names.index(n) for n in ("dissipation", "fluctuation")]
        left, right = record.sums[:whole, columns].T
        path = np.concatenate([[0.0], np.cumsum(right - left)])
        pair = [
            max(1, round(self.q**k / record.block_length)) for k in (last - 1, last)
        ]
        pair[1] = min(pair[1], whole)
        before, now = path[pair]
        if min(before, now) <= 0:
            return Finding(
                "undecided",
                "Q, which measures the squared distance from the start, is not above "
                'zero. The rule needs `FDRObservables(center="initial")`.',
            )
        steps = [n * record.block_length for n in pair]
        power = math.log(now / before) / math.log(steps[1] / steps[0])
        said = (
            f"|θ−θ₀|² grew as the power {power:.2f} of t from step {steps[0]:,} to "
            f"{steps[1]:,}"
        )
        if power < self.threshold:
            return Finding("stationary", f"{said}, below {self.threshold:g}.")
        return Finding(
            "drifting",
            f"{said}; the rule waits until the power is below {self.threshold:g}.",
        )
