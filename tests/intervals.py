"""95% intervals made wider, so that a test seldom fails by chance."""

from scipy import stats

from keras_fdr.landscape import Estimate


def widened(estimate, repetitions, false_alarms):
    """The interval that misses the truth in a share `false_alarms` of all cases.

    Args:
        estimate: `Estimate` with Student's 95% interval.
        repetitions: The independent values behind it.
        false_alarms: The share, on both sides together.
    """
    now, wanted = stats.t.isf([0.025, false_alarms / 2], repetitions - 1)
    center = (estimate.low + estimate.high) / 2
    half = (estimate.high - estimate.low) / 2 * wanted / now
    return Estimate(estimate.value, center - half, center + half)
