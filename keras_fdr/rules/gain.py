"""A rule that weighs what more steps earn against what a smaller rate would earn."""

import math
from dataclasses import dataclass

import numpy as np

from keras_fdr.arguments import check_number
from keras_fdr.record import Record
from keras_fdr.rules.config import Configured
from keras_fdr.rules.q_path import QPath
from keras_fdr.rules.verdict import Status, Verdict, blocking_reason

# The window, which is the newest half of the record, has at least so many blocks.
_LEAST_BLOCKS = 8


@dataclass(frozen=True)
class GainRule(Configured):
    """Calls a run stationary when more steps earn little of what a decay would earn.

    In the harmonic approximation the noise of the present learning rate η adds

        ⟨f⟩ − f₀ = ⟨O_R⟩/2

    to the loss f (`fdr_noise_loss` in the logs), which a decay of η would earn now.
    What the last doubling of the steps t has earned is the fall of the mean loss f̄. The
    run is called stationary when

        |f̄ over (t/8, t/2] − f̄ over (t/2, t]| < share · Ō_R/2.

    Unlike the ratio of FDR1, this speaks of the loss also where λ is so small that the
    norm of the weights moves long after the loss has settled.

    Example:

    >>> import numpy as np
    >>> rows = np.tile([1.0, 1.0, 0.0, 2.0, 0.25], (1000, 1))
    >>> print(GainRule()(Record(rows, steps=1000)).reason)
    The loss fell by 0 to the mean of steps 501 to 1,000, less than 0.1 of the 0.5 \
that the noise of this learning rate adds to it.
    >>> rows[:500, 4] = 0.5
    >>> GainRule()(Record(rows, steps=1000)).status
    'drifting'

    Args:
        share: Float above 0. Defaults to `0.1`.

    Call arguments:
        record: A `Record` with the loss.

    Returns:
        A `Verdict`; undecided without the loss, and while the window has fewer than 8
        blocks.

    Raises:
        TypeError: If `share` is not a number, or `record` not a `Record`.
        ValueError: If `share` is not above 0.
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        self._set("share", check_number("share", self.share, low=0))

    def __call__(self, record: Record) -> Verdict:
        """The verdict on `record` (see the class)."""

        def verdict(status: Status, reason: str) -> Verdict:
            return Verdict(status, record.ratio, record.steps, reason, error, size)

        error = size = math.nan
        why_not = blocking_reason(record)
        if why_not:
            return verdict("undecided", why_not)
        first = record.window_start // record.block_length
        if len(record.sums) - first < _LEAST_BLOCKS:
            return verdict("undecided", f"The rule needs {2 * _LEAST_BLOCKS} steps.")
        if "loss" not in record.names:
            return verdict("undecided", "The record lacks the loss.")
        _, loss = record.block_means("loss")
        before, now = loss[first // 4 : first].mean(), loss[first:].mean()
        if not np.isfinite(before + now):
            return verdict("undecided", "The loss is missing or infinite.")
        path = QPath.of(record)
        error, size = path.ratio_error(), path.effective_sample_size
        fell, noise = before - now, path.mean_fluctuation / 2
        status: Status = "drifting"
        words = "; the rule waits until it changes by less than"
        if abs(fell) < self.share * noise:
            status, words = "stationary", ", less than"
        moved = "fell" if fell >= 0 else "rose"
        reason = (
            f"The loss {moved} by {abs(fell):.3g} to the mean of steps "
            f"{record.window_start + 1:,} to {record.steps:,}{words} "
            f"{self.share:g} of the {noise:.3g} that the noise of this learning rate "
            "adds to it."
        )
        return verdict(status, reason)
