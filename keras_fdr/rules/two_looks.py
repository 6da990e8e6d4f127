"""A rule that a ratio which only passes through 1 does not fool."""

from dataclasses import dataclass

import numpy as np

from keras_fdr.arguments import check_number
from keras_fdr.record import Record
from keras_fdr.rules.config import Configured
from keras_fdr.rules.verdict import Status, Verdict, blocking_reason, explain_growth

# The window, which is the newest half of the record, has at least so many blocks.
_LEAST_BLOCKS = 8


@dataclass(frozen=True)
class TwoLooksRule(Configured):
    """Calls a run stationary when two looks, one after the other, agree that it is.

    The looks are the two halves of the window (t/2, t]. With the ratio
    Ō_L/Ō_R over each half, and the mean loss f̄, all of these must hold:

        |ratio over (t/2, 3t/4] − 1| < margin,
        |ratio over (3t/4, t] − 1| < margin,
        |f̄ over (t/8, t/2] / f̄ over (t/2, t] − 1| < margin.

    A ratio that passes through 1, on its way from above to below, is near 1 for a part
    of the window only. And while the loss still falls, its earlier mean is larger. So
    each look may be coarse (the margin is 10 times the paper's threshold), and the rule
    is nearly as fast as the paper's where `DriftRule` must wait for its error bars.

    Example:

    >>> import numpy as np
    >>> rows = np.tile([1.0, 1.0, 0.0, 2.0, 0.3], (1000, 1))
    >>> rows[:, 0] = np.linspace(1.6, 0.8, 1000)  # passes through 1 at step 750
    >>> record = Record(rows, steps=1000)
    >>> abs(record.ratio - 1) < 0.01
    True
    >>> TwoLooksRule()(record).status
    'drifting'
    >>> rows[:, 0] = 1.02
    >>> print(TwoLooksRule()(Record(rows, steps=1000)).reason)
    Dissipation over fluctuation is 1.020 and 1.020 in the two halves of steps 501 to \
1,000; the earlier loss is 1.000 times that of these steps: all within 0.1 of 1.

    Args:
        margin: Float above 0. Defaults to `0.1`.

    Call arguments:
        record: A `Record`; `loss` is used where it has one that is finite.

    Returns:
        A `Verdict`; undecided while the window has fewer than 8 blocks.

    Raises:
        TypeError: If `margin` is not a number, or `record` not a `Record`.
        ValueError: If `margin` is not above 0.
    """

    margin: float = 0.1

    def __post_init__(self) -> None:
        self._set("margin", check_number("margin", self.margin, low=0))

    def __call__(self, record: Record) -> Verdict:
        """The verdict on `record` (see the class)."""
        why_not = blocking_reason(record)
        if why_not:
            return Verdict("undecided", record.ratio, record.steps, why_not)
        first = record.window_start // record.block_length
        if len(record.sums) - first < _LEAST_BLOCKS:
            reason = f"The rule needs {2 * _LEAST_BLOCKS} steps for two looks."
            return Verdict("undecided", record.ratio, record.steps, reason)
        early, late = _ratios(record, first)
        said = (
            f"Dissipation over fluctuation is {early:.3f} and {late:.3f} in the two "
            f"halves of steps {record.window_start + 1:,} to {record.steps:,}"
        )
        values = [early, late]
        loss = _earlier_loss(record, first)
        if loss is not None:
            values.append(loss)
            said += f"; the earlier loss is {loss:.3f} times that of these steps"
        fires = all(abs(value - 1) < self.margin for value in values)
        status: Status = "stationary" if fires else "drifting"
        if fires:
            said += f": all within {self.margin:g} of 1."
        else:
            said += f"; the rule waits until all are within {self.margin:g} of 1."
            if max(early, late) < 1 - self.margin:
                said += f" {explain_growth(record.ratio)}"
        return Verdict(status, record.ratio, record.steps, said)


def _ratios(record: Record, first: int) -> list[float]:
    """The ratio over each half of the window that begins at the block `first`."""
    columns = [record.names.index(n) for n in ("dissipation", "fluctuation")]
    halves = np.array_split(record.sums[first:, columns], 2)
    ratios = []
    for half in halves:
        left, right = half.sum(axis=0)
        ratios.append(float(left / right) if right else float("nan"))
    return ratios


def _earlier_loss(record: Record, first: int) -> float | None:
    """The mean loss over (t/8, t/2] over that in the window, where it is known."""
    if "loss" not in record.names:
        return None
    _, loss = record.block_means("loss")
    before, now = loss[first // 4 : first].mean(), loss[first:].mean()
    if not np.isfinite(before + now) or now == 0:
        return None
    return float(before / now)
