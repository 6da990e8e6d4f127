"""Notices what changed weights, loss or learning rate besides the recorded steps."""

import math
from typing import NamedTuple

import keras

from keras_fdr import _compat
from keras_fdr.measured import Measured
from keras_fdr.notices import Notices, notice
from keras_fdr.observables.stored_record import StoredRecord
from keras_fdr.record import Record
from keras_fdr.rules import blocking_reason


class RecordAtStart(NamedTuple):
    """What is remembered of a record when an epoch begins.

    Attributes:
        restarts: Integer, how often records were cut short by a change of the rate.
        learning_rate: Float, η₀ of the record.
    """

    restarts: int
    learning_rate: float

    @classmethod
    def of(cls, observables: StoredRecord) -> "RecordAtStart":
        """That of a record now."""
        return cls(observables.restart_count(), observables.recorded_learning_rate())


def check_before_epoch(model: keras.Model, optimizer: Measured) -> None:
    """Restarts the record if loss or weights changed since the last epoch.

    Args:
        model: The `keras.Model`.
        optimizer: What is measured.
    """
    observables = optimizer.observables
    if not (optimizer.built and observables.built):
        return
    if observables.is_of_another_loss(_compat.loss_as_given(model)):
        observables.reset()
        notice(
            "The model was compiled with another loss since the last epoch. An "
            "average over two losses means nothing, so the record restarts at "
            "t = 0."
        )
    if not optimizer.weights_unchanged():
        observables.reset()
        notice(
            "The weights or velocities were changed from outside since the last "
            "epoch (by another callback, `set_weights`, `load_weights`, or the "
            "average that `use_ema` puts in their place when training ends): the "
            "record restarts at t = 0."
        )


def check_after_epoch(optimizer: Measured, notices: Notices) -> None:
    """Restarts the record if something else than steps changed the weights.

    Args:
        optimizer: What is measured.
        notices: Those that the callback has given.
    """
    observables = optimizer.observables
    if observables.built and not optimizer.weights_unchanged():
        observables.reset()
        notices.once(
            "moved",
            "Something other than the optimizer changed weights or velocities "
            "within the epoch (an assignment in a layer, a callback, or a training "
            "loop): the recorded steps do not lead to the present weights, and the "
            "difference is far larger than rounding. The record restarts at t = 0.",
        )


def warn_of_rates(
    observables: StoredRecord, record: Record, start: RecordAtStart
) -> None:
    """Warns if the rate was changed inside a record although this callback cuts.

    Args:
        observables: What holds the record.
        record: The `Record` at the end of the epoch.
        start: What was remembered when the epoch began.
    """
    varies = record.learning_rates is not None
    if observables.restart_count() <= start.restarts and not varies:
        return
    newest = observables.newest_learning_rate()
    before = record.learning_rate if varies else start.learning_rate
    effect = (
        "the record averages over these rates."
        if varies
        else "the record restarted at t = 0."
    )
    notice(
        "The learning rate was changed inside a record by something other than "
        f"`FDRCallback` (from {before:.6g} to {newest:.6g}): {effect} "
        "Pass `factor=None` to leave the schedule to the other."
    )


def warn_of_gaps(record: Record, notices: Notices) -> None:
    """Warns of numbers that are missing in a record or not finite.

    Args:
        record: The `Record` at the end of the epoch.
        notices: Those that the callback has given.
    """
    if record.first_nonfinite("dissipation", "fluctuation"):
        notices.once("nonfinite", blocking_reason(record))
    elif record.steps and math.isnan(_first_loss(record)):
        notices.once(
            "loss",
            "The loss is missing in the record, so rules that need it cannot "
            "decide: the model's `train_step` does not tell it to the optimizer. "
            "Call `loss = self.optimizer.scale_loss(loss)` in `train_step`, "
            "before the gradients are taken.",
        )


def _first_loss(record: Record) -> float:
    # An overflow is not meant here. It makes the observables NaN as well.
    return float(record.sums[0, record.names.index("loss")])
