"""One row of a sweep's table: the numbers of one seed at one learning rate."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

NAN = math.nan


@dataclass(frozen=True)
class SweepRow:
    """What one stage of a sweep measured for one seed.

    All numbers from `full_batch_loss` on are averages over the newest half of the
    stage. A number that was not measured is NaN.

    Example:

    >>> row = SweepRow(seed=0, stage=1, learning_rate=0.1, full_batch_loss=2.5)
    >>> row.full_batch_loss, row["full_batch_loss"]
    (2.5, 2.5)
    >>> row  # It shows some of its numbers.
    SweepRow(seed=0, stage=1, learning_rate=0.1, full_batch_loss=2.5, \
full_batch_dissipation=nan)

    Args:
        seed: Integer, which seed.
        stage: Integer, the position of the stage in the sweep, counted from 0.
        learning_rate: Float, η.
        steps: Integer, the number of steps of the stage.
        passes: Integer, the number of full-batch passes in its newest half.
        full_batch_loss: Float, f, the loss over the whole dataset.
        full_batch_gradient_norm_squared: Float, |∇f|², its squared gradient.
        full_batch_velocity_gradient: Float, v·∇f with the velocity v, averaged from
            v(t)·∇f^B of every step, where ∇f^B is the mini-batch gradient.
        full_batch_dissipation: Float, O_FB, the left side of FDR2, eq. (18).
        noise_curvature: Float, Tr(HC̃), the curvature along the gradient noise, measured
            by Hessian-vector products.
        velocity_curvature: Float, ⟨v(t+1)ᵀ H v(t+1)⟩, the curvature along the velocity,
            measured in the same way. H is the Hessian of f.
        full_batch_drift: Float, how much f falls in one step, divided by η. It is 0
            in a stationary state. Otherwise FDR2 is off by this amount.
        dissipation: Float, Ō_L, the left side of FDR1.
        fluctuation: Float, Ō_R, the right side of FDR1.
        gradient_norm_squared: Float, Tr C̃, the average of |∇f^B|².
        series: Dictionary of lists: `steps`, and the half-running averages of
            `dissipation` and `fluctuation` after these steps, for figure 2.
    """

    seed: int
    stage: int
    learning_rate: float
    steps: int = 0
    passes: int = 0
    full_batch_loss: float = NAN
    full_batch_gradient_norm_squared: float = NAN
    full_batch_velocity_gradient: float = NAN
    full_batch_dissipation: float = NAN
    noise_curvature: float = NAN
    velocity_curvature: float = NAN
    full_batch_drift: float = NAN
    dissipation: float = NAN
    fluctuation: float = NAN
    gradient_norm_squared: float = NAN
    # A dictionary cannot be hashed.
    series: Mapping[str, list[float]] = field(default_factory=dict, hash=False)

    def __repr__(self) -> str:
        return (
            f"SweepRow(seed={self.seed}, stage={self.stage}, "
            f"learning_rate={self.learning_rate:.6g}, "
            f"full_batch_loss={self.full_batch_loss:.4g}, "
            f"full_batch_dissipation={self.full_batch_dissipation:.4g})"
        )

    def __eq__(self, other: object) -> bool:
        """Whether all numbers are equal. Two numbers that are NaN count as equal."""
        if not isinstance(other, SweepRow):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __getitem__(self, name: str) -> Any:
        """A number by its name, as in a row of a table."""
        if name not in COLUMNS:
            raise KeyError(name)
        return getattr(self, name)

    def to_dict(self) -> dict[str, Any]:
        """The row as a dictionary for a file, without numbers that are NaN."""
        values = {name: getattr(self, name) for name in COLUMNS}
        return {name: value for name, value in values.items() if not _is_nan(value)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The row that `to_dict` described.

        Args:
            values: Dictionary from the names of the fields to their values.

        Raises:
            ValueError: If a name is unknown, or `seed`, `stage` or `learning_rate` is
                missing.
        """
        unknown = sorted(set(values) - set(COLUMNS))
        missing = [name for name in COLUMNS[:3] if name not in values]
        if unknown or missing:
            raise ValueError(
                "A row must have `seed`, `stage` and `learning_rate`, and no other "
                f"names than {', '.join(COLUMNS[3:])}. Received: a row with "
                f"{sorted(values)}"
            )
        return cls(**values)


COLUMNS = tuple(field.name for field in dataclasses.fields(SweepRow))


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
