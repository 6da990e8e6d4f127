"""The columns that `FDRCallback` adds to the logs of an epoch."""

import keras

from keras_fdr.measured import Measured, MeasuredOptimizer
from keras_fdr.record import Record
from keras_fdr.rules import Verdict


def columns_of(
    record: Record, verdict: Verdict, optimizer: Measured, every: bool
) -> dict[str, float]:
    """What the logs say of a record.

    Args:
        record: The `Record` at the end of the epoch.
        verdict: The `Verdict` on it.
        optimizer: What was measured.
        every: Boolean, whether all columns are wanted, or only those that fit into the
            line of an epoch.

    Returns:
        Dictionary from column to number. A column that has no meaning for this
        optimizer is left out.
    """
    average = record.half_running_average
    logs = {}
    rate = rate_of(optimizer)
    if rate is not None:
        # Others may have set the rate of the next epoch by now.
        measured_at = optimizer.observables.newest_learning_rate()
        logs["learning_rate"] = measured_at if record.steps else rate
    logs["fdr_ratio"] = verdict.ratio
    if _is_sgd(optimizer):
        # In the harmonic approximation ⟨f⟩ − f₀ = ⟨O_L⟩/2, and O_L = O_R by FDR1.
        logs["fdr_noise_loss"] = average("fluctuation") / 2
    if every:
        if rate is not None:
            logs["fdr_learning_rate"] = logs["learning_rate"]
        logs["fdr_dissipation"] = average("dissipation")
        logs["fdr_fluctuation"] = average("fluctuation")
        logs["fdr_stationary"] = float(verdict.stationary)
    return logs


def rate_of(optimizer: Measured) -> float | None:
    """The present learning rate; `None` where the optimizer has several."""
    if isinstance(optimizer, MeasuredOptimizer) and optimizer.has_several_rates:
        return None
    rate = optimizer.learning_rate
    # `float` of a variable fails under a distribution strategy.
    return float(rate.numpy() if hasattr(rate, "numpy") else rate)


def _is_sgd(optimizer: Measured) -> bool:
    """Whether steps follow the gradient itself, without a preconditioner."""
    if isinstance(optimizer, MeasuredOptimizer):
        return type(optimizer.optimizer) is keras.optimizers.SGD
    return True
