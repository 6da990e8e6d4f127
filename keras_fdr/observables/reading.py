"""Reads records from the device."""

from typing import TYPE_CHECKING, Any

import numpy as np

from keras_fdr.observables.blocks import BlockSums
from keras_fdr.record import Record

if TYPE_CHECKING:
    from keras_fdr.observables.stored_record import StoredRecord


def read(layer: "StoredRecord", blocks: BlockSums, names: tuple[str, ...]) -> Record:
    """The `Record` of some blocks; empty before the layer is built.

    Args:
        layer: What holds the blocks.
        blocks: The blocks.
        names: The names of their columns.
    """
    if not layer.built:
        return Record.empty(names)
    return Record(names=names, **values_of(layer, blocks))


def values_of(layer: "StoredRecord", blocks: BlockSums) -> dict[str, Any]:
    """The arguments of a `Record`, without `names`.

    Args:
        layer: What holds the blocks; built.
        blocks: The blocks.
    """
    values = blocks.fetch()
    rate = layer.recorded_learning_rate()
    # The ledger counts steps, and passes have blocks of their own.
    of_steps = blocks is not layer.passes
    return {
        **values,
        "learning_rate": rate,
        "learning_rates": _learning_rates(layer, values, rate) if of_steps else None,
    }


def _learning_rates(
    layer: "StoredRecord", values: dict[str, Any], rate: float
) -> np.ndarray | None:
    """The mean rate of each block of steps; `None` if the rate is constant."""
    deviations = layer.ledger.deviations(len(values["sums"]))
    if not deviations.any():
        return None
    ends = np.arange(1, len(deviations) + 1) * values["block_length"]
    counts = np.diff(np.minimum(ends, values["steps"]), prepend=0)
    return rate + deviations / counts
