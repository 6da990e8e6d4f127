"""Verdicts on every weight tensor by itself."""

import dataclasses

# A log line names no more weight tensors than this.
_NAMED = 5


def judge_variables(rule, verdict, records):
    """Completes a verdict by those on every weight tensor.

    FDR1 holds for each weight tensor by itself. The total decides, since the loss has
    one learning rate; the tensors say where a drift comes from.

    Args:
        rule: Function `Record -> Verdict`.
        verdict: The `Verdict` on the total.
        records: Dictionary from a weight's name to its `Record`.

    Returns:
        The `Verdict` with `by_variable`, and the drifting ones named in its reason.
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
        f"{verdict.reason} By themselves {len(drifting)} of {len(records)} weight "
        f"tensors still drift: {names}."
    )
    return dataclasses.replace(verdict, reason=reason)
