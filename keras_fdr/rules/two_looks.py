"""A rule that a ratio which only passes through 1 does not fool."""

from dataclasses import dataclass

import numpy as np

from keras_fdr.arguments import check_number
from keras_fdr.record import Record
from keras_fdr.rules.base import Finding, Rule
from keras_fdr.rules.verdict import Status, explain_growth

# The window, the newest half of the record, must have at least this many blocks.
_LEAST_BLOCKS = 8


@dataclass(frozen=True)
class TwoLooksRule(Rule):
    """Calls a run stationary when two looks, one after the other, agree that it is.

    The window is the newest half of the t steps, (t/2, t]. Each look is at one half of
    it. Each has the ratio Ō_L/Ō_R of the mean dissipation to the mean fluctuation. With
    f̄, the mean loss, all of these must hold:

        |ratio over (t/2, 3t/4] − 1| < margin,
        |ratio over (3t/4, t] − 1| < margin,
        |f̄ over (t/8, t/2] / f̄ over (t/2, t] − 1| < margin.

    A ratio that passes through 1, on its way from above to below, is near 1 only for a
    part of the window. While the loss still falls, its earlier mean is larger. So each
    look may be coarse: the margin is 10 times the paper's threshold. The rule is nearly
    as fast as the paper's, and `DriftRule` must wait longer for its error bars.

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
        record: A `Record`. Its `loss` is used if it has one that is finite.

    Returns:
        A `Verdict`. It is undecided while the window has fewer than 8 blocks.

    Raises:
        TypeError: If `margin` is not a number, or `record` not a `Record`.
        ValueError: If `margin` is not above 0.
    """

    margin: float = 0.1

    def __post_init__(self) -> None:
        self._set("margin", check_number("margin", self.margin, low=0))

    def judge(self, record: Record) -> Finding:
        """What the rule finds in a record (see the class)."""
        first = record.window_start // record.block_length
        if len(record.sums) - first < _LEAST_BLOCKS:
            reason = f"The rule needs {2 * _LEAST_BLOCKS} steps for two looks."
            return Finding("undecided", reason)
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
        return Finding(status, said)


def _ratios(record: Record, first: int) -> list[float]:
    """The ratio over each half of the window, which begins at the block `first`."""
    columns = [record.names.index(n) for n in ("dissipation", "fluctuation")]
    halves = np.array_split(record.sums[first:, columns], 2)
    ratios = []
    for half in halves:
        left, right = half.sum(axis=0)
        ratios.append(float(left / right) if right else float("nan"))
    return ratios


def _earlier_loss(record: Record, first: int) -> float | None:
    """The mean loss over (t/8, t/2] divided by that in the window, if it is known."""
    if "loss" not in record.names:
        return None
    _, loss = record.block_means("loss")
    before, now = loss[first // 4 : first].mean(), loss[first:].mean()
    if not np.isfinite(before + now) or now == 0:
        return None
    return float(before / now)
