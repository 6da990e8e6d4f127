"""What a full-batch pass returns."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class FullBatch:
    """What one `FullBatchPass` measured.

    Example:

    >>> FullBatch(loss=2.75, gradient_norm_squared=9.0, examples=2)
    FullBatch(loss=2.75, gradient_norm=3, examples=2)

    Args:
        loss: Float, f, the mean data loss plus all regularisers.
        gradient_norm_squared: Float, |∇f|², the squared norm of the gradient of f.
        examples: Integer, the number of examples.
        metrics: Dictionary of the compiled metrics over the whole dataset. If the model
            has several losses, each of them is there too, as `<name>_loss`.
            Defaults to an empty dictionary.
        gradient: List of tensors, ∇f for each of the pass's `weights`, or `None` if it
            was not asked for. Defaults to `None`.
    """

    loss: float
    gradient_norm_squared: float
    examples: int
    metrics: dict[str, float] = field(default_factory=dict)
    gradient: list[Any] | None = None

    def __repr__(self) -> str:
        return (
            f"FullBatch(loss={self.loss:.6g}, gradient_norm={self.gradient_norm:.4g}, "
            f"examples={self.examples})"
        )

    @property
    def gradient_norm(self) -> float:
        """The norm of the gradient, |∇f|."""
        return self.gradient_norm_squared**0.5
