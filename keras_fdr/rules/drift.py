"""The paper's rule with error bars: an equivalence test."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from keras_fdr.arguments import check_number
from keras_fdr.record import Record
from keras_fdr.rules.config import Configured
from keras_fdr.rules.q_path import MIN_EFFECTIVE_SAMPLES, QPath, effective_sample_size
from keras_fdr.rules.verdict import Status, Verdict, blocking_reason, explain_growth

# How many steps are missing cannot be extrapolated from a path that trends.
_UNKNOWN = "Q still moves one way, so the number of missing steps is not known yet"


class _Quantity(NamedTuple):
    """What is 1 in a stationary state, and how far noise alone moves it."""

    name: str
    value: float
    error: float
    tolerance: float
    # The error falls as t to minus this.
    power: float


@dataclass(frozen=True)
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
        TypeError: If an argument is not a number, or `record` not a `Record`.
    """

    false_alarm: float = 0.05
    margin: float = 0.1

    def __post_init__(self) -> None:
        false_alarm = check_number("false_alarm", self.false_alarm, low=0, high=0.5)
        self._set("false_alarm", false_alarm)
        self._set("margin", check_number("margin", self.margin, low=0))

    def __call__(self, record: Record) -> Verdict:
        """The verdict on `record` (see the class)."""
        why_not = blocking_reason(record)
        if why_not:
            return Verdict("undecided", record.ratio, record.steps, why_not)
        path = QPath.of(record)
        size, error = path.effective_sample_size, path.ratio_error()

        def verdict(status: Status, reason: str) -> Verdict:
            return Verdict(status, record.ratio, record.steps, reason, error, size)

        if np.ptp(path.values) == 0:
            return verdict(
                "undecided",
                "Both sides of FDR1 are equal at every step: Q does not move at all.",
            )
        if size < MIN_EFFECTIVE_SAMPLES:
            if abs(record.ratio - 1) >= self.margin and path.is_trend:
                reason = (
                    f"Dissipation over fluctuation is {record.ratio:.3f}, and Q moves "
                    "one way all through the window."
                )
                if record.ratio < 1:
                    reason += f" {explain_growth(record.ratio)}"
                return verdict("drifting", reason)
            needed = MIN_EFFECTIVE_SAMPLES
            more = _UNKNOWN
            if not path.is_trend:
                missing = math.ceil(record.steps * (needed / size - 1))
                more = f"about {missing:,} more steps"
            return verdict(
                "undecided",
                f"The window is worth {size:.1f} independent values, {needed} are "
                f"needed: {more}.",
            )
        z = norm.ppf(1 - self.false_alarm)
        said = [
            _compare(one, z, record.steps, path.is_trend)
            for one in self._quantities(record, error)
        ]
        statuses, reasons = zip(*said, strict=True)
        status: Status = "stationary"
        if "drifting" in statuses:
            status = "drifting"
        elif "undecided" in statuses:
            status = "undecided"
        reason = "; ".join(reasons) + "."
        # The first of the quantities is the ratio.
        if statuses[0] == "drifting" and record.ratio < 1:
            reason += f" {explain_growth(record.ratio)}"
        return verdict(status, reason)

    def _quantities(self, record: Record, ratio_error: float) -> Iterator[_Quantity]:
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


def _compare(one: _Quantity, z: float, steps: int, trend: bool) -> tuple[Status, str]:
    """Whether a quantity is shown to be within its tolerance of 1, or outside."""
    width, off = z * one.error, abs(one.value - 1)
    reason = f"{one.name} is {one.value:.3f} ± {width:.3f}, "
    if off + width < one.tolerance:
        return "stationary", f"{reason}within {one.tolerance:g} of 1"
    if off - width >= one.tolerance:
        return "drifting", f"{reason}not within {one.tolerance:g} of 1"
    reason += f"not yet shown to be within {one.tolerance:g} of 1"
    if width >= one.tolerance:
        if trend:
            return (
                "undecided",
                f"{reason}: noise alone moves it by more, and {_UNKNOWN}",
            )
        longer = (width / one.tolerance) ** (1 / one.power)
        missing = math.ceil(steps * (longer - 1))
        reason += f": noise alone moves it by more for about {missing:,} more steps"
    return "undecided", reason
