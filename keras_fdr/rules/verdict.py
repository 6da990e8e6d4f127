"""What a rule says of a record, and when none can."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["stationary", "drifting", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """What a rule says of a record.

    Args:
        status: `"stationary"`, `"drifting"`, or `"undecided"` where the record
            does not allow a decision.
        ratio: Float, Ō_L/Ō_R, or NaN.
        steps: Integer, t.
        reason: A sentence that a person can act on.
        ratio_error: Float, the standard error that the ratio would have in a
            stationary state: 95% of ratios are within 1.96 of it of 1 then. NaN where
            unknown. Defaults to NaN.
        effective_sample_size: Float, how many independent values the window is worth.
            NaN where unknown. Defaults to NaN.
        by_variable: Dictionary from a weight tensor's name to the `Verdict` on it by
            itself, where `FDRObservables(per_variable=True)` records them.
            Defaults to none.
    """

    status: Status
    ratio: float
    steps: int
    reason: str
    ratio_error: float = math.nan
    effective_sample_size: float = math.nan
    # A dictionary has no hash.
    by_variable: Mapping[str, "Verdict"] = field(default_factory=dict, hash=False)

    @property
    def stationary(self) -> bool:
        """Whether the status is `"stationary"`."""
        return self.status == "stationary"

    @property
    def drifting_variables(self) -> tuple[str, ...]:
        """Names of the weight tensors that drift, the farthest from 1 first."""
        each = self.by_variable
        drifting = [name for name in each if each[name].status == "drifting"]
        return tuple(sorted(drifting, key=lambda name: -abs(each[name].ratio - 1)))


def obstacle(record):
    """Why no rule can decide on a record.

    Args:
        record: A `Record`.

    Returns:
        A sentence, or `None` where a rule can decide.
    """
    if record.steps == 0:
        return "Nothing is recorded yet: train for at least one step."
    nonfinite = record.first_nonfinite("dissipation", "fluctuation")
    if nonfinite:
        first, last = nonfinite
        where = f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"
        return (
            f"An observable is NaN or infinite at {where} of the record: the loss or "
            "the gradients overflow there; lower the learning rate or clip."
        )
    if record.half_running_average("fluctuation") == 0:
        return (
            "The fluctuation is exactly 0: the weights do not move. Check that the "
            "learning rate is above 0 and that the loss has a gradient."
        )
    return None
