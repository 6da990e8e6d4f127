"""What a rule says about a record, and which records no rule can judge."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Literal, get_args

from keras_fdr.arguments import check_integer
from keras_fdr.record import Record

Status = Literal["stationary", "drifting", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """What a rule says about a record.

    Example:

    >>> verdict = Verdict("drifting", 1.25, 400, "Too large.", ratio_error=0.021)
    >>> verdict
    Verdict('drifting', ratio=1.25 ± 0.021, steps=400)
    >>> print(verdict.reason)
    Too large.

    Args:
        status: `"stationary"`, `"drifting"`, or `"undecided"` if the record does not
            allow a decision.
        ratio: Float, the mean dissipation over the mean fluctuation, Ō_L/Ō_R, or NaN if
            it is unknown.
        steps: Integer, the number of steps in the record.
        reason: A sentence that a person can act on.
        ratio_error: Float, the standard error that the ratio would have in a
            stationary state. Then 95% of ratios are within 1 ± 1.96 `ratio_error`.
            NaN if it is unknown. Defaults to NaN.
        effective_sample_size: Float, how many independent values the window is worth.
            NaN if it is unknown. Defaults to NaN.
        by_variable: Dictionary from a weight tensor's name to the separate `Verdict` on
            it, if `FDRObservables(per_variable=True)` records the tensors.
            Defaults to an empty dictionary.

    Raises:
        ValueError: If `status` is not one of the three, or `steps` is negative.
        TypeError: If an argument is of another type.
    """

    status: Status
    ratio: float
    steps: int
    reason: str
    ratio_error: float = math.nan
    effective_sample_size: float = math.nan
    # A dictionary cannot be hashed.
    by_variable: Mapping[str, "Verdict"] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.status, str) or self.status not in get_args(Status):
            raise ValueError(
                '`status` must be "stationary", "drifting" or "undecided". '
                f"Received: status={self.status!r}"
            )
        check_integer("steps", self.steps, 0)
        for name, kind, rule in (
            ("ratio", Real, "a number, or NaN where it is unknown"),
            ("ratio_error", Real, "a number, or NaN where it is unknown"),
            ("effective_sample_size", Real, "a number, or NaN where it is unknown"),
            ("reason", str, "a sentence"),
            ("by_variable", Mapping, "a dictionary of verdicts"),
        ):
            value = getattr(self, name)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise TypeError(f"`{name}` must be {rule}. Received: {name}={value!r}")

    def __repr__(self) -> str:
        known = not math.isnan(self.ratio_error)
        error = f" ± {self.ratio_error:.2g}" if known else ""
        ratio = f"ratio={self.ratio:.4g}{error}"
        return f"Verdict({self.status!r}, {ratio}, steps={self.steps})"

    @property
    def stationary(self) -> bool:
        """Whether the status is `"stationary"`."""
        return self.status == "stationary"

    @property
    def drifting_variables(self) -> tuple[str, ...]:
        """Names of the weight tensors that drift, with ratios farthest from 1 first."""
        each = self.by_variable
        drifting = [name for name in each if each[name].status == "drifting"]
        return tuple(sorted(drifting, key=lambda name: -abs(each[name].ratio - 1)))


def blocking_reason(record: Record) -> str | None:
    """The reason why no rule can judge a record, if there is one.

    Args:
        record: A `Record`.

    Returns:
        A sentence, or `None` if rules can judge the record.

    Raises:
        TypeError: If `record` is not a `Record`.
    """
    if not isinstance(record, Record):
        raise TypeError(
            "`record` must be a `Record`, such as `FDRCallback.record`. "
            f"Received: record={record!r}"
        )
    if record.steps == 0:
        return "Nothing is recorded yet: train for at least one step."
    nonfinite = record.first_nonfinite("dissipation", "fluctuation")
    if nonfinite:
        first, last = nonfinite
        where = f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"
        return (
            f"An observable is NaN or infinite at {where} of the record: the loss or "
            "the gradients overflow there. Lower the learning rate, or clip."
        )
    if record.half_running_average("fluctuation") == 0:
        return (
            "The fluctuation is exactly 0: the weights do not move. Check that the "
            "learning rate is above 0 and that the loss has a gradient."
        )
    return None


def explain_growth(ratio: float) -> str:
    """What a ratio below 1 means, and what to do.

    Args:
        ratio: Float below 1, the dissipation over the fluctuation.

    Returns:
        A sentence.
    """
    cause = "the noise pushes them outward more than the loss pulls them back"
    if ratio < 0:
        cause = "the loss itself pushes them outward"
    return (
        f"The weights still grow: {cause}, which is common with little or no L2. "
        "Train longer, or add L2."
    )
