"""Rules that turn a `Record` into a `Verdict`."""

import math
from dataclasses import dataclass
from typing import Literal

from keras_fdr.record import Record


@dataclass(frozen=True)
class Verdict:
    """What a rule says of a record.

    Args:
        status: `"stationary"`, `"drifting"`, or `"undecided"` where the record
            does not allow a decision.
        ratio: Float, Ō_L/Ō_R, or NaN.
        steps: Integer, t.
        reason: A sentence that a person can act on.
    """

    status: Literal["stationary", "drifting", "undecided"]
    ratio: float
    steps: int
    reason: str

    @property
    def stationary(self) -> bool:
        """Whether the status is `"stationary"`."""
        return self.status == "stationary"


class ThresholdRule:
    """The rule of the paper, section 3.3.

    The run is called stationary when

        |Ō_L(t)/Ō_R(t) − 1| < X

    with the half-running averages of eq. (15).

    Example:

    >>> import numpy as np
    >>> rows = np.tile([0.995, 1.0, 0.0, 2.0, 0.3], (100, 1))
    >>> verdict = ThresholdRule(threshold=0.01)(Record(rows, steps=100))
    >>> verdict.status
    'stationary'
    >>> print(verdict.reason)
    Dissipation over fluctuation is 0.9950 over steps 51 to 100, within 0.01 of 1.

    Args:
        threshold: Float above 0, X. Defaults to `0.01`.

    Call arguments:
        record: A `Record`.

    Returns:
        A `Verdict`.

    Raises:
        ValueError: If `threshold` is not above 0.

    Reference:
        [Yaida, 2019](https://arxiv.org/abs/1810.00004), section 3.3.
    """

    def __init__(self, threshold=0.01):
        if not 0 < threshold < math.inf:
            raise ValueError(
                f"`threshold` must be above 0. Received: threshold={threshold}"
            )
        self.threshold = threshold

    def __call__(self, record: Record) -> Verdict:
        """The verdict on `record` (see the class)."""
        why_not = obstacle(record)
        if why_not:
            return Verdict("undecided", record.ratio, record.steps, why_not)
        ratio, x = record.ratio, self.threshold
        measured = (
            f"Dissipation over fluctuation is {ratio:.4f} over steps "
            f"{record.window_start + 1:,} to {record.steps:,}"
        )
        if abs(ratio - 1) < x:
            reason = f"{measured}, within {x:g} of 1."
            return Verdict("stationary", ratio, record.steps, reason)
        reason = f"{measured}; the rule waits until it is within {x:g} of 1."
        return Verdict("drifting", ratio, record.steps, reason)


def obstacle(record):
    """Why no rule can decide on a record.

    Args:
        record: A `Record`.

    Returns:
        A sentence, or `None` where a rule can decide.
    """
    if record.steps == 0:
        return "Nothing is recorded yet: train for at least one step."
    nonfinite = record.first_nonfinite("dissipation", "fluctuation")
    if nonfinite:
        first, last = nonfinite
        where = f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"
        return (
            f"An observable is NaN or infinite at {where} of the record: the loss or "
            "the gradients overflow there; lower the learning rate or clip."
        )
    if record.half_running_average("fluctuation") == 0:
        return (
            "The fluctuation is exactly 0: the weights do not move. Check that the "
            "learning rate is above 0 and that the loss has a gradient."
        )
    return None
