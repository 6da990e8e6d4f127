"""Pflug's test of stationarity, from the velocity and the gradient."""

from dataclasses import dataclass

from keras_fdr.arguments import check_integer
from keras_fdr.record import Record
from keras_fdr.rules.base import Finding, Rule


@dataclass(frozen=True)
class PflugRule(Rule):
    """Pflug's test: have successive gradients begun to oppose one another?

    The published statistic is the mean of ∇f^B(t)·∇f^B(t−1) since the burn-in, where
    ∇f^B(t) is the mini-batch gradient of step t. While the run makes progress,
    successive gradients point the same way, and the statistic is above 0. When it falls
    below 0, the run is called stationary: steps across the minimum undo each other.

    The record has v(t)·∇f^B(t) with the velocity v, eq. (10) of the paper. v(t) is
    −(1−ν) times the sum of ∇f^B(t−1), ∇f^B(t−2), … with the weights 1, μ, …, where μ is
    the momentum and ν the dampening. So the statistic here is

        S = −Σ v(t)·∇f^B(t)/(1−ν),   stationary when S < 0.

    It is the published one with all earlier gradients instead of only the last. It
    tends to the published one as μ → 0. For a quadratic loss f with the Hessian H and
    the learning rate η, the mean of v·∇f in the stationary state is η⟨vᵀHv⟩/2 > 0 at
    every μ. (The mean of ∇f^B(t)·∇f^B(t−1) alone is above 0 there if μ is large.)

    The test has no error bar. Noise alone can make it fire, even long before the run is
    stationary, as Pesme et al. (2020) prove.

    Example:

    >>> import numpy as np
    >>> rows = np.tile([1.0, 1.0, -0.2, 2.0, 0.3], (400, 1))
    >>> PflugRule()(Record(rows, steps=400)).status
    'drifting'
    >>> rows[100:, 2] = 0.3
    >>> PflugRule()(Record(rows, steps=400)).status
    'stationary'

    Args:
        burn_in: Integer, at least 0: so many steps at the start of the record are left
            out, to the nearest block. The publications leave the number to the user.
            Defaults to `100`.

    Call arguments:
        record: A `Record` of a run with momentum above 0. At momentum 0 `FDRSGD` keeps
            no velocity, and the verdict is undecided.

    Returns:
        A `Verdict`.

    Raises:
        TypeError: If `burn_in` is not an integer, or `record` is not a `Record`.
        ValueError: If `burn_in` is below 0.

    Reference:
        Pflug, 1990; [Chee and Toulis, 2018](https://arxiv.org/abs/1710.06382);
        [Chee and Li, 2020](https://arxiv.org/abs/2008.12224) (momentum).
    """

    burn_in: int = 100

    def __post_init__(self) -> None:
        self._set("burn_in", check_integer("burn_in", self.burn_in, low=0))

    def judge(self, record: Record) -> Finding:
        """What the rule finds in a record (see the class)."""
        if "velocity_gradient" not in record.names:
            return Finding("undecided", "The rule needs v·∇f, which the record lacks.")
        if record.steps <= self.burn_in:
            missing = self.burn_in + 1 - record.steps
            return Finding("undecided", f"The burn-in lasts {missing:,} more steps.")
        first = round(self.burn_in / record.block_length)
        column = record.sums[first:, record.names.index("velocity_gradient")]
        if not column.any():
            return Finding(
                "undecided",
                "v·∇f is 0 at all steps. Without momentum no velocity is kept, and "
                "the rule needs `momentum` above 0.",
            )
        steps = record.steps - first * record.block_length
        mean = -float(column.sum()) / steps
        said = f"The mean of −v·∇f over {steps:,} steps is {mean:.3g}"
        if mean < 0:
            return Finding("stationary", f"{said}, below 0.")
        return Finding("drifting", f"{said}; the rule waits until it is below 0.")
