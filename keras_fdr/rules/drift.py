"""The paper's rule with error bars: an equivalence test."""

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from keras_fdr.record import Record
from keras_fdr.rules.config import Configured
from keras_fdr.rules.q_path import FEW, QPath, effective_sample_size
from keras_fdr.rules.verdict import Verdict, obstacle


class _Quantity(NamedTuple):
    """What is 1 in a stationary state, and how far noise alone moves it."""

    name: str
    value: float
    error: float
    tolerance: float
    # The error falls as t to minus this.
    power: float


class DriftRule(Configured):
    """Calls a run stationary when it has shown that the run does not drift.

    The ratio of FDR1 says how far Q moved (see `QPath`) over the window, the newest
    half of the record:

        Ō_L/Ō_R − 1 = −[Q(T) − Q(t0)] / Σ O_R.

    The rule is the paper's with an error bar. Its null hypothesis is that the run
    still drifts by `margin`,

        H0: |E[Ō_L/Ō_R] − 1| ≥ margin,

    and it is rejected when |Ō_L/Ō_R − 1| + z s < margin, where s is the noise floor of
    the ratio (`Verdict.ratio_error`) and z the normal quantile of `false_alarm`. So
    noise cannot make the rule fire: it widens the interval, and the rule waits.

    The noise floor is known where the window is worth 4 independent values of Q. It
    rests on how far Q moved anywhere in the window, so an excursion with equal ends,
    where the ratio is 1 by accident, widens it.

    |θ−θ_c|² can miss a change, such as a hop between mirror images. So where the record
    has the loss, it must not drift either. H0 is also

        |E[f̄(t/8, t/2]] / E[f̄(t/2, t]] − 1| ≥ 2 margin:

    the mean loss before the window against that in it, where earlier steps show more.

    The rule does not change when the loss is multiplied by a number.

    Example:

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> q = rng.normal(size=2001)  # stationary
    >>> rows = np.ones((2000, 2))
    >>> rows[:, 0] -= np.diff(q)
    >>> names = ("dissipation", "fluctuation")
    >>> verdict = DriftRule()(Record(rows, steps=2000, names=names))
    >>> verdict.status
    'stationary'
    >>> print(verdict.reason)
    Dissipation over fluctuation is 1.001 ± 0.002, within 0.1 of 1.
    >>> rows[:, 0] += 0.2  # Q falls by a fifth of the fluctuation
    >>> DriftRule()(Record(rows, steps=2000, names=names)).status
    'drifting'

    Args:
        false_alarm: Float in (0, 0.5): the probability to fire at one look on a drift
            of just the margin (docs/verdicts.md has it over all looks).
            Defaults to `0.05`.
        margin: Float above 0, the drift of Q that is tolerated, as a share of the
            fluctuation. Where a decaying loss comes within 5% of its last value, its
            mean over the window is within 12% of it. Defaults to `0.1`.

    Call arguments:
        record: A `Record`; `loss` is used where it has one that is finite.

    Returns:
        A `Verdict`: drifting where a drift of more than the margin is shown, undecided
        where neither is.

    Raises:
        ValueError: If an argument is out of range.
    """

    arguments = ("false_alarm", "margin")

    def __init__(self, false_alarm=0.05, margin=0.1):
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
        why_not = obstacle(record)
        if why_not:
            return Verdict("undecided", record.ratio, record.steps, why_not)
        path = QPath.of(record)
        size, error = path.effective_sample_size, path.ratio_error()

        def verdict(status, reason):
            return Verdict(status, record.ratio, record.steps, reason, error, size)

        if np.ptp(path.values) == 0:
            return verdict(
                "undecided",
                "Both sides of FDR1 are equal at every step: Q does not move at all.",
            )
        if size < FEW:
            if abs(record.ratio - 1) >= self.margin and _is_trend(path.values):
                return verdict(
                    "drifting",
                    f"Dissipation over fluctuation is {record.ratio:.3f}, and Q moves "
                    "one way all through the window.",
                )
            missing = math.ceil(record.steps * (FEW / size - 1))
            return verdict(
                "undecided",
                f"The window is worth {size:.1f} independent values, {FEW} are "
                f"needed: about {missing:,} more steps.",
            )
        z = norm.ppf(1 - self.false_alarm)
        said = [_compare(one, z, record) for one in self._quantities(record, error)]
        statuses, reasons = zip(*said, strict=True)
        status = "stationary"
        if "drifting" in statuses:
            status = "drifting"
        elif "undecided" in statuses:
            status = "undecided"
        return verdict(status, "; ".join(reasons) + ".")

    def _quantities(self, record, ratio_error):
        """The ratio, and the loss before the window over that in it, where known."""
        name = "Dissipation over fluctuation"
        yield _Quantity(name, record.ratio, ratio_error, self.margin, power=1)
        if "loss" not in record.names:
            return
        _, loss = record.block_means("loss")
        first = record.window_start // record.block_length
        before, now = loss[first // 4 : first], loss[first:]
        mean = now.mean()
        if not np.isfinite(before.sum() + mean) or mean == 0:
            return
        size = effective_sample_size(now)
        # Var(f̄), where the steps before are worth as many values in proportion.
        variance = now.var() / max(1 - 1 / size, 0.5) / size
        error = math.sqrt(variance * (1 + len(now) / len(before))) / abs(mean)
        name, value = "loss before the window over loss in it", before.mean() / mean
        yield _Quantity(name, value, error, 2 * self.margin, power=0.5)


def _compare(one, z, record):
    """Whether a quantity is shown to be within its tolerance of 1, or outside."""
    width, off = z * one.error, abs(one.value - 1)
    reason = f"{one.name} is {one.value:.3f} ± {width:.3f}, "
    if off + width < one.tolerance:
        return "stationary", f"{reason}within {one.tolerance:g} of 1"
    if off - width >= one.tolerance:
        return "drifting", f"{reason}not within {one.tolerance:g} of 1"
    reason += f"not yet shown to be within {one.tolerance:g} of 1"
    if width >= one.tolerance:
        longer = (width / one.tolerance) ** (1 / one.power)
        missing = math.ceil(record.steps * (longer - 1))
        reason += f": noise alone moves it by more for about {missing:,} more steps"
    return "undecided", reason


def _is_trend(path):
    """Whether the halves' means differ by more than 2 of their spreads.

    A straight line comes to 3.5, however few values it is worth.
    """
    first, second = np.array_split(path, 2)
    spread = math.sqrt((first.var() + second.var()) / 2)
    return abs(second.mean() - first.mean()) > 2 * spread
