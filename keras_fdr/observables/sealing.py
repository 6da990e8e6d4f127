"""Remembers the weights as a record left them, to notice who else changes them."""

import math

from keras_fdr.observables.stored_record import StoredRecord
from keras_fdr.observables.weights_state import WeightsState


def seal(record: StoredRecord, state: WeightsState) -> None:
    """Remembers weights and velocities as a record left them.

    Args:
        record: The record; built.
        state: The `WeightsState` now.
    """
    record.seal_of_weights.assign([state.checksum, _mark(record)])
    steps = int(record.blocks.steps.numpy())
    if steps and not math.isnan(record.recorded_learning_rate()):
        record.ledger.keep(state.q, _sums_of_rows(record), steps)


def weights_unchanged(record: StoredRecord, state: WeightsState) -> bool:
    """Whether nothing but recorded steps has moved weights and velocities.

    Directly after a `seal` their checksum decides. If steps were taken since, the exact
    identity decides (see `Ledger`), to within rounding.

    Args:
        record: The record; built.
        state: The `WeightsState` now.
    """
    steps = int(record.blocks.steps.numpy())
    if steps == 0 or math.isnan(record.recorded_learning_rate()):
        return True
    checksum_then, mark_then = record.seal_of_weights.numpy()
    if mark_then == _mark(record):
        return state.checksum == int(checksum_then)
    return record.ledger.holds(state, _sums_of_rows(record), steps)


def _mark(record: StoredRecord) -> int:
    # The mark is below 0 because files of older code have the steps here, together with
    # another checksum.
    return -1 - int(record.blocks.steps.numpy())


def _sums_of_rows(record: StoredRecord) -> tuple[float, float]:
    dissipation, fluctuation = record.blocks.sums.numpy()[:, :2].sum(axis=0)
    return float(dissipation), float(fluctuation)
