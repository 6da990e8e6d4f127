"""The paper's rule with error bars: an equivalence test."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from keras_fdr.arguments import check_number
from keras_fdr.record import Record
from keras_fdr.rules.base import Finding, Rule
from keras_fdr.rules.q_path import MIN_EFFECTIVE_SAMPLES, QPath, effective_sample_size
from keras_fdr.rules.verdict import Status, explain_growth

# The number of missing steps cannot be extrapolated from a path with a trend.
_UNKNOWN = "Q still moves one way, so the number of missing steps is not known yet"


class _Quantity(NamedTuple):
    """A number that is 1 in a stationary state, and how far noise alone moves it."""

    name: str
    value: float
    error: float
    tolerance: float
    # The error falls with the number of steps t as t to the power of minus this.
    power: float


@dataclass(frozen=True)
class DriftRule(Rule):
    """Calls a run stationary when it has shown that the run does not drift.

    The ratio of FDR1, the mean dissipation Ō_L over the mean fluctuation Ō_R, says how
    far the quantity Q of `QPath` moved over the window. The window is the newest half
    of the record, the steps from t0 to T:

        Ō_L/Ō_R − 1 = −[Q(T) − Q(t0)] / Σ O_R.

    The rule is the paper's with an error bar. Its null hypothesis is that the run
    still drifts by `margin`,

        H0: |E[Ō_L/Ō_R] − 1| ≥ margin,

    and it is rejected when |Ō_L/Ō_R − 1| + z s < margin. Here s is the noise floor of
    the ratio (`Verdict.ratio_error`) and z the normal quantile of `false_alarm`. Noise
    cannot make the rule fire: it widens the interval, and the rule waits.

    The noise floor is known if the window is worth 4 independent values of Q. It rests
    on how far Q moved anywhere in the window. A run that leaves and comes back has a
    ratio of 1 by accident, but then the noise floor is large.

    Q contains the squared distance |θ−θ_c|² of the weights θ from a centre θ_c. This
    distance can miss a change, such as a hop between mirror images. So if the record
    has the loss, the loss must not drift either. H0 is also

        |E[f̄(t/8, t/2]] / E[f̄(t/2, t]] − 1| ≥ 2 margin:

    the mean loss f̄ before the window is compared with that in it, since a drift shows
    more in earlier steps.

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
        false_alarm: Float in (0, 0.5): the probability that one look calls a run
            stationary that drifts by exactly the margin. docs/verdicts.md has the
            probability over all looks. Defaults to `0.05`.
        margin: Float above 0, the drift of Q that is tolerated, as a share of the
            fluctuation. When a decaying loss comes within 5% of its last value, its
            mean over the window is within 12% of that value. Defaults to `0.1`.

    Call arguments:
        record: A `Record`. Its `loss` is used if it has one that is finite.

    Returns:
        A `Verdict`. It is drifting if a drift of more than the margin is shown, and
        undecided if neither a drift nor its absence is shown.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is not a number, or `record` is not a `Record`.
    """

    false_alarm: float = 0.05
    margin: float = 0.1

    def __post_init__(self) -> None:
        false_alarm = check_number("false_alarm", self.false_alarm, low=0, high=0.5)
        self._set("false_alarm", false_alarm)
        self._set("margin", check_number("margin", self.margin, low=0))

    def judge(self, record: Record) -> Finding:
        """What the rule finds in a record (see the class)."""
        path = QPath.of(record)
        size, error = path.effective_sample_size, path.ratio_error()

        def found(status: Status, reason: str) -> Finding:
            return Finding(status, reason, error, size)

        if np.ptp(path.values) == 0:
            return found(
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
                return found("drifting", reason)
            needed = MIN_EFFECTIVE_SAMPLES
            more = _UNKNOWN
            if not path.is_trend:
                missing = math.ceil(record.steps * (needed / size - 1))
                more = f"about {missing:,} more steps"
            return found(
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
        return found(status, reason)

    def _quantities(self, record: Record, ratio_error: float) -> Iterator[_Quantity]:
        """The ratio, and the loss before the window divided by that in it, if known."""
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
        # This is Var(f̄). The steps before the window are taken to be worth as many
        # independent values per block as those in it.
        variance = now.var() / max(1 - 1 / size, 0.5) / size
        error = math.sqrt(variance * (1 + len(now) / len(before))) / abs(mean)
        name, value = "loss before the window over loss in it", before.mean() / mean
        yield _Quantity(name, value, error, 2 * self.margin, power=0.5)


def _compare(one: _Quantity, z: float, steps: int, trend: bool) -> tuple[Status, str]:
    """Whether a quantity is shown to be within its tolerance of 1, or outside it."""
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
