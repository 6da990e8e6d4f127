"""An equivalence test on the drift of Q."""

import math

import numpy as np

from keras_fdr.record import Record
from keras_fdr.rules.config import Configured
from keras_fdr.rules.path import QPath
from keras_fdr.rules.verdict import Verdict, obstacle


class DriftRule(Configured):
    """Calls a run stationary when it has shown that Q does not drift.

    The running sum of O_R − O_L is the path of Q (see `QPath`), so FDR1 asks whether
    Q drifts. Let D be the difference of the mean Q of the two halves of the window,
    the newest half of the record, and σ the spread of Q inside the halves. The null
    hypothesis is that Q still drifts by more than `margin` of that spread,

        H0: |E[D]| ≥ margin · σ,

    and it is rejected when |D| plus its one-sided confidence width is below the
    margin. So noise cannot make the rule fire: it widens the interval. A window that
    is worth too few independent values gives no verdict, which also refuses the
    accidental pass of an excursion with equal ends.

    The rule does not change when the loss is multiplied by a number.

    Example:

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> q = rng.normal(size=2001)  # stationary
    >>> rows = np.ones((2000, 5))
    >>> rows[:, 0] -= np.diff(q) / 10
    >>> DriftRule()(Record(rows, steps=2000)).status
    'stationary'
    >>> rows[:, 0] -= 0.01  # Q rises by 0.1 of its spread a step
    >>> DriftRule()(Record(rows, steps=2000)).status
    'drifting'

    Args:
        false_alarm: Float in (0, 0.5): the probability to fire at one look on a drift
            of just the margin; over many looks it can be larger (docs/verdicts.md).
            Defaults to `0.05`.
        margin: Float above 0, the drift that is tolerated, in units of the spread of Q.
            Defaults to `1.0`.

    Call arguments:
        record: A `Record`.

    Returns:
        A `Verdict`.

    Raises:
        ValueError: If an argument is out of range.
    """

    arguments = ("false_alarm", "margin")

    def __init__(self, false_alarm=0.05, margin=1.0):
        if not 0 < false_alarm < 0.5:
            raise ValueError(
                "`false_alarm` must be in (0, 0.5). "
                f"Received: false_alarm={false_alarm}"
            )
        if not 0 < margin < math.inf:
            raise ValueError(f"`margin` must be above 0. Received: margin={margin}")
        self.false_alarm = false_alarm
        self.margin = margin

    def __call__(self, record: Record) -> Verdict:
        """The verdict on `record` (see the class)."""
        from scipy.stats import norm

        why_not = obstacle(record)
        if why_not:
            return Verdict("undecided", record.ratio, record.steps, why_not)
        path = QPath.of(record)
        size = path.effective_sample_size()
        quality = path.ratio_error(), size

        def verdict(status, reason):
            return Verdict(status, record.ratio, record.steps, reason, *quality)

        # The width for a drift of 0 is 2 quantile/√size: above the margin nothing
        # can be shown.
        quantile = norm.ppf(1 - self.false_alarm)
        needed = (2 * quantile / self.margin) ** 2
        first, second = np.array_split(path.values, 2)
        drift = second.mean() - first.mean()
        # The halves' means follow the path: their variance is missing in the spread.
        within = (first.var() + second.var()) / 2 / max(1 - 2 / size, 0.5)
        spread = math.sqrt(within)
        if np.ptp(path.values) == 0:
            return verdict(
                "undecided",
                "Both sides of FDR1 are equal at every step: Q does not move at all.",
            )
        relative = drift / spread if spread else math.copysign(math.inf, drift)
        width = 2 * quantile / math.sqrt(size)
        moved = (
            f"Between the halves of the window Q moved by {relative:+.2f} ± {width:.2f}"
        )
        if size < needed:
            # A straight line comes to 3.5, however few values it is worth.
            if abs(relative) > max(2.0, self.margin):
                return verdict("drifting", f"{moved} of its spread.")
            missing = math.ceil(record.steps * (needed / size - 1))
            return verdict(
                "undecided",
                f"The window is worth {size:.1f} independent values, {needed:.0f} are "
                f"needed: about {missing:,} more steps.",
            )
        tolerated = f"{self.margin:g} of its spread"
        if abs(relative) + width < self.margin:
            return verdict(
                "stationary", f"{moved} of its spread, less than {self.margin:g}."
            )
        return verdict(
            "drifting", f"{moved}; the rule waits until it is under {tolerated}."
        )
