"""The rule of the paper."""

import math
from dataclasses import dataclass

from keras_fdr.arguments import check_number
from keras_fdr.record import Record
from keras_fdr.rules.base import Finding, Rule
from keras_fdr.rules.q_path import QPath
from keras_fdr.rules.verdict import Status, explain_growth


@dataclass(frozen=True)
class ThresholdRule(Rule):
    """The rule of the paper, section 3.3.

    The run is called stationary when

        |Ō_L(t)/Ō_R(t) − 1| < X

    with the half-running averages Ō_L of the dissipation and Ō_R of the fluctuation,
    eq. (15), and the threshold X. The verdict's `ratio_error` is the
    noise that the ratio has even in a stationary state. While X is below it, noise
    alone can make the rule fire. Then the reason says so. It also says, if that is
    known, after how many more steps X will be larger than the noise.

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
        TypeError: If `threshold` is not a number, or `record` not a `Record`.
        ValueError: If `threshold` is not above 0.

    Reference:
        [Yaida, 2019](https://arxiv.org/abs/1810.00004), section 3.3.
    """

    threshold: float = 0.01

    def __post_init__(self) -> None:
        self._set("threshold", check_number("threshold", self.threshold, low=0))

    def judge(self, record: Record) -> Finding:
        """What the rule finds in a record (see the class)."""
        ratio, x = record.ratio, self.threshold
        path = QPath.of(record)
        error, size = path.ratio_error(), path.effective_sample_size
        fires = abs(ratio - 1) < x
        said = (
            f"Dissipation over fluctuation is {ratio:.4f} over steps "
            f"{record.window_start + 1:,} to {record.steps:,}"
        )
        if fires:
            said += f", within {x:g} of 1."
        else:
            said += f"; the rule waits until it is within {x:g} of 1."
        sentences = [said]
        noise = 0.0 if math.isnan(error) else 1.96 * error
        if ratio < 1 - max(x, noise):
            sentences.append(explain_growth(ratio))
        if error > x:
            sentences.append(self._explain_noise(record, path, fires))
        status: Status = "stationary" if fires else "drifting"
        return Finding(status, " ".join(sentences), error, size)

    def _explain_noise(self, record: Record, path: QPath, fires: bool) -> str:
        """Says that the noise floor is above the threshold."""
        x, error = self.threshold, path.ratio_error()
        reason = f"Noise alone moves the ratio by {error:.2g} here"
        if fires:
            reason = (
                f"The rule fired, but noise alone moves the ratio by {error:.2g} here "
                "and could have done it"
            )
        if path.is_trend:
            return (
                f"{reason}: {x:g} is too small to be told from it, and Q still moves "
                "one way, so the number of missing steps is not known yet."
            )
        # The noise floor falls as 1/t.
        missing = math.ceil(record.steps * (error / x - 1))
        return (
            f"{reason}: {x:g} can be told from it after about {missing:,} more steps."
        )
