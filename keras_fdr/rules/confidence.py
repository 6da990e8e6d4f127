"""The rules of SASA and SASA+."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import t

from keras_fdr.arguments import check_boolean
from keras_fdr.record import Record
from keras_fdr.rules.base import Finding, Rule
from keras_fdr.rules.q_path import QPath
from keras_fdr.rules.verdict import Status


class _Settings(NamedTuple):
    """The numbers of a published test."""

    # The window is this share of the steps, the newest ones.
    share: float
    least_steps: int
    # The tolerance δ is a share of the fluctuation.
    tolerance: float
    significance: float


# The papers' defaults. SASA+ asks for more than 1,000 steps in the newest eighth.
_DEFAULTS = {
    "sasa": _Settings(1 / 2, 1000, 0.02, 0.2),
    "sasa+": _Settings(1 / 8, 8001, 0.0, 0.05),
}


@dataclass(frozen=True)
class ConfidenceRule(Rule):
    """Tests the mean of z with an error bar, where z is dissipation minus fluctuation.

    With the two sides of FDR1 this is z = O_L − O_R. Over a window of the newest steps,
    z̄ is the mean of z and Ō_R the mean of O_R. δ is a tolerance.

    - `"sasa"` takes the newest half of the steps. It calls the run stationary when the
      confidence interval of z̄ lies within ±δ Ō_R.
    - `"sasa+"` takes the newest eighth. It calls the run stationary when the interval
      contains 0. This only means that no drift was found, so noise alone can make the
      rule fire.

    Both rules also ask that z̄ has the same sign in both halves of the window.

    Until its first cut, the published code asks for more: the interval is moved to the
    mean of each half, and must pass at both places (`composite`). This guards against a
    z̄ that only passes through 0. A rule sees one record and does not know of earlier
    cuts, so the caller sets `composite`.

    Error bars are from overlapping batch means of √N of the N steps. In a stationary
    state successive z nearly cancel, since their sum is a difference of Q (see
    `DriftRule`). So these error bars are too wide, and `"sasa"` fires late.

    Example:

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> rows = np.ones((4000, 5))
    >>> rows[:, 0] += rng.normal(0.005, 0.1, 4000)
    >>> ConfidenceRule("sasa")(Record(rows, steps=4000)).status
    'stationary'

    Args:
        kind: `"sasa"` or `"sasa+"`. Defaults to `"sasa"`.
        composite: Boolean, whether both halves of the window must pass separately.
            Defaults to `False`.

    Call arguments:
        record: A `Record`.

    Returns:
        A `Verdict`. It is undecided before 1,000 (SASA) or 8,001 (SASA+) steps.

    Raises:
        ValueError: If `kind` is neither.
        TypeError: If `composite` is not a boolean, or `record` is not a `Record`.

    Reference:
        [Lang et al., 2019](https://arxiv.org/abs/1909.09785) (SASA);
        [Zhang et al., 2020](https://arxiv.org/abs/2002.10597) (SASA+).
    """

    kind: str = "sasa"
    composite: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in _DEFAULTS:
            raise ValueError(
                f'`kind` must be "sasa" or "sasa+". Received: kind={self.kind!r}'
            )
        self._set("composite", check_boolean("composite", self.composite))

    def judge(self, record: Record) -> Finding:
        """What the rule finds in a record (see the class)."""
        settings = _DEFAULTS[self.kind]
        if record.steps < settings.least_steps:
            reason = (
                f"The rule needs {settings.least_steps:,} steps, of which "
                f"{settings.least_steps - record.steps:,} are missing."
            )
            return Finding("undecided", reason)
        path = QPath.of(record)
        quality = path.ratio_error(), path.effective_sample_size
        z, fluctuation = _window(record, settings.share)
        halves = [half.mean() for half in np.array_split(z, 2)]
        width = _half_width(z, record.block_length, settings.significance)
        means = halves if self.composite else [z.mean()]
        low, high = min(means) - width, max(means) + width
        bound = settings.tolerance * fluctuation
        if self.kind == "sasa+":
            passes = all(abs(mean) < width for mean in means)
            wanted = "containing 0"
        else:
            passes = -bound < low and high < bound
            wanted = (
                f"within ±{bound:.3g} ({settings.tolerance:.0%} of the fluctuation)"
            )
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
        return Finding(status, reason, *quality)


def _window(record: Record, share: float) -> tuple[np.ndarray, float]:
    """The z of each complete block of the newest share, and the mean O_R there."""
    steps = round(share * record.steps)
    whole = record.steps // record.block_length
    blocks = max(2, round(steps / record.block_length))
    names = ("dissipation", "fluctuation")
    sums = np.stack([record.sums[:, record.names.index(n)] for n in names])
    left, right = sums[:, max(0, whole - blocks) : whole] / record.block_length
    return left - right, float(right.mean())


def _half_width(z: np.ndarray, block_length: int, significance: float) -> float:
    """Half the width of Student's interval of the mean, by overlapping batch means."""
    n = len(z)
    size = max(1, round(math.sqrt(n * block_length) / block_length))
    means = np.convolve(z, np.ones(size) / size, "valid")
    spread = np.sum((means - z.mean()) ** 2)
    variance = size * spread / ((n - size) * (n - size + 1))
    freedom = max(1.0, 1.5 * (n / size - 1))  # Meketon and Schmeiser, 1984
    return float(t.ppf(1 - significance / 2, freedom) * math.sqrt(variance))
