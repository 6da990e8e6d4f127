"""Separate verdicts on every weight tensor."""

import dataclasses
from collections.abc import Callable, Mapping

from keras_fdr.record import Record
from keras_fdr.rules.verdict import Verdict

# A reason names at most this many weight tensors.
_NAMED = 5


def judge_variables(
    rule: Callable[[Record], Verdict],
    verdict: Verdict,
    records: Mapping[str, Record],
) -> Verdict:
    """Adds the verdicts on every weight tensor to the verdict on the whole model.

    FDR1 holds for each weight tensor separately. There is one learning rate, so a cut
    is decided on the whole model. The verdicts on the tensors say which of them drift.

    Args:
        rule: Function `Record -> Verdict`.
        verdict: The `Verdict` on the whole model.
        records: Dictionary from a weight's name to its `Record`.

    Returns:
        The `Verdict` with `by_variable`. Its reason names the tensors that drift.
    """
    by_variable = {name: rule(record) for name, record in records.items()}
    verdict = dataclasses.replace(verdict, by_variable=by_variable)
    drifting = verdict.drifting_variables
    if not drifting:
        return verdict
    names = ", ".join(drifting[:_NAMED])
    if len(drifting) > _NAMED:
        names += f" and {len(drifting) - _NAMED} more"
    reason = (
        f"{verdict.reason} Seen separately, {len(drifting)} of {len(records)} weight "
        f"tensors still drift: {names}."
    )
    return dataclasses.replace(verdict, reason=reason)
