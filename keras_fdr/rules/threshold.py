"""The rule of the paper."""

import math

from keras_fdr.record import Record
from keras_fdr.rules.config import Configured
from keras_fdr.rules.q_path import QPath
from keras_fdr.rules.verdict import Status, Verdict, obstacle


class ThresholdRule(Configured):
    """The rule of the paper, section 3.3.

    The run is called stationary when

        |Ō_L(t)/Ō_R(t) − 1| < X

    with the half-running averages of eq. (15). The verdict's `ratio_error` is the
    noise that the ratio has even in a stationary state. While X is below it, the rule
    fires by luck, and the reason says how many more steps X asks for.

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

    arguments = ("threshold",)

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
        path = QPath.of(record)
        error, size = path.ratio_error(), path.effective_sample_size
        reason = (
            f"Dissipation over fluctuation is {ratio:.4f} over steps "
            f"{record.window_start + 1:,} to {record.steps:,}"
        )
        status: Status
        if abs(ratio - 1) < x:
            status, reason = "stationary", f"{reason}, within {x:g} of 1."
        else:
            status = "drifting"
            reason = f"{reason}; the rule waits until it is within {x:g} of 1."
        if error > x:
            # The noise floor falls as 1/t.
            missing = math.ceil(record.steps * (error / x - 1))
            reason += (
                f" Noise alone moves the ratio by {error:.2g} here: {x:g} can be told "
                f"from it after about {missing:,} more steps."
            )
        return Verdict(status, ratio, record.steps, reason, error, size)
