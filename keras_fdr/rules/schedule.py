"""What a verdict means when the learning rate changed within the average."""

import dataclasses

from keras_fdr.record import Record
from keras_fdr.rules.verdict import Verdict


def explain_schedule(verdict: Verdict, record: Record) -> Verdict:
    """Adds to the reason that the learning rate changed within the average.

    Args:
        verdict: The `Verdict` of any rule.
        record: The `Record` that it is about.

    Returns:
        The same `Verdict` if the rate was constant over the window of the average.
    """
    _, rates = record.block_means("learning_rate")
    rates = rates[record.window_start // record.block_length :]
    if record.learning_rates is None or len(rates) == 0 or rates[0] == rates[-1]:
        return verdict
    reason = (
        f"{verdict.reason} The learning rate went from {rates[0]:.3g} to "
        f"{rates[-1]:.3g} within this average, so the verdict says whether the weights "
        "follow the schedule, not whether one rate has done its work."
    )
    return dataclasses.replace(verdict, reason=reason)
