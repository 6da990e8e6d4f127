"""What a full-batch pass returns."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class FullBatch:
    """What one `FullBatchPass` measured.

    Args:
        loss: Float, f: the mean data loss with all regularisers.
        gradient_norm_squared: Float, |∇f|².
        examples: Integer, the number of examples.
        metrics: Dictionary of the compiled metrics over the whole dataset; of a
            model with several losses each of them too, as `<name>_loss`.
        gradient: List of tensors, ∇f for each of the pass's `weights`, or `None`
            if it was not asked for.
    """

    loss: float
    gradient_norm_squared: float
    examples: int
    metrics: dict[str, float] = field(default_factory=dict)
    gradient: list[Any] | None = None

    @property
    def gradient_norm(self) -> float:
        """|∇f|."""
        return self.gradient_norm_squared**0.5
