"""The rules of SASA and SASA+."""

import math

import numpy as np
from scipy.stats import t

from keras_fdr.record import Record
from keras_fdr.rules.config import Configured
from keras_fdr.rules.q_path import QPath
from keras_fdr.rules.verdict import Status, Verdict, obstacle

# (share of the newest steps, least steps, tolerance δ, significance), of the papers.
# SASA+ wants more than 1,000 steps in the newest eighth.
_DEFAULTS = {"sasa": (1 / 2, 1000, 0.02, 0.2), "sasa+": (1 / 8, 8001, 0.0, 0.05)}


class ConfidenceRule(Configured):
    """Tests the mean of z = O_L − O_R with an error bar.

    - `"sasa"` calls the run stationary when the confidence interval of z̄ over the
      newest half of the steps lies within ±δ Ō_R.
    - `"sasa+"` does so when the interval over the newest eighth contains 0. That is a
      failure to find a drift: noise alone makes it fire.

    Both also ask that z̄ has the same sign in both halves of the window. The published
    code asks for more until its first cut, against a z̄ that crosses 0 on the way: the
    interval, moved to each half's mean, must pass by itself (`composite`). A rule sees
    one record and no earlier cut, so this is for the caller to say.

    Error bars are from overlapping batch means of √N steps. In a stationary state
    successive z nearly cancel (their sum is a difference of Q, see `DriftRule`), so
    these error bars are too wide, and `"sasa"` late.

    Example:

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> rows = np.ones((4000, 5))
    >>> rows[:, 0] += rng.normal(0.005, 0.1, 4000)
    >>> ConfidenceRule("sasa")(Record(rows, steps=4000)).status
    'stationary'

    Args:
        kind: `"sasa"` or `"sasa+"`. Defaults to `"sasa"`.
        composite: Boolean, whether each half of the window must pass by itself.
            Defaults to `False`.

    Call arguments:
        record: A `Record`.

    Returns:
        A `Verdict`; undecided before 1,000 (SASA) or 8,001 (SASA+) steps.

    Raises:
        ValueError: If `kind` is neither.

    Reference:
        [Lang et al., 2019](https://arxiv.org/abs/1909.09785) (SASA);
        [Zhang et al., 2020](https://arxiv.org/abs/2002.10597) (SASA+).
    """

    arguments = ("kind", "composite")

    def __init__(self, kind="sasa", composite=False):
        if kind not in _DEFAULTS:
            raise ValueError(
                f'`kind` must be "sasa" or "sasa+". Received: kind={kind!r}'
            )
        self.kind = kind
        self.composite = composite
        self._share, self._least, self._tolerance, self._significance = _DEFAULTS[kind]

    def __call__(self, record: Record) -> Verdict:
        """The verdict on `record` (see the class)."""
        why_not = obstacle(record)
        if why_not:
            return Verdict("undecided", record.ratio, record.steps, why_not)
        if record.steps < self._least:
            reason = (
                f"The rule needs {self._least:,} steps: "
                f"{self._least - record.steps:,} are missing."
            )
            return Verdict("undecided", record.ratio, record.steps, reason)
        path = QPath.of(record)
        quality = path.ratio_error(), path.effective_sample_size
        z, fluctuation = self._window(record)
        halves = [half.mean() for half in np.array_split(z, 2)]
        width = _half_width(z, record.block_length, self._significance)
        means = halves if self.composite else [z.mean()]
        low, high = min(means) - width, max(means) + width
        bound = self._tolerance * fluctuation
        if self.kind == "sasa+":
            passes = all(abs(mean) < width for mean in means)
            wanted = "containing 0"
        else:
            passes = -bound < low and high < bound
            wanted = f"within ±{bound:.3g} ({self._tolerance:.0%} of the fluctuation)"
        fires = passes and halves[0] * halves[1] > 0
        interval = "z̄ of each half" if self.composite else "z̄"
        reason = f"{interval} is between {low:.3g} and {high:.3g}"
        if fires:
            reason += f", {wanted}, with one sign in both halves of the window."
        else:
            reason += (
                f"; the rule waits until this is {wanted}, and both halves of the "
                "window have the same sign."
            )
        status: Status = "stationary" if fires else "drifting"
        return Verdict(status, record.ratio, record.steps, reason, *quality)

    def _window(self, record):
        """The z of each whole block of the newest share, and the mean O_R there."""
        steps = round(self._share * record.steps)
        whole = record.steps // record.block_length
        blocks = max(2, round(steps / record.block_length))
        names = ("dissipation", "fluctuation")
        sums = np.stack([record.sums[:, record.names.index(n)] for n in names])
        left, right = sums[:, max(0, whole - blocks) : whole] / record.block_length
        return left - right, right.mean()


def _half_width(z, block_length, significance):
    """Half of Student's interval of the mean, by overlapping batch means."""
    n = len(z)
    size = max(1, round(math.sqrt(n * block_length) / block_length))
    means = np.convolve(z, np.ones(size) / size, "valid")
    spread = np.sum((means - z.mean()) ** 2)
    variance = size * spread / ((n - size) * (n - size + 1))
    freedom = max(1.0, 1.5 * (n / size - 1))  # Meketon and Schmeiser, 1984
    return t.ppf(1 - significance / 2, freedom) * math.sqrt(variance)
