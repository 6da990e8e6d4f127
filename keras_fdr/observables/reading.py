"""Reads records from the device."""

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

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


def half_running_average(layer: "StoredRecord") -> tf.Tensor:
    """`Record.half_running_average` of every column of a row, in a graph.

    Args:
        layer: What holds the blocks; built.

    Returns:
        Float64 tensor of shape `(5,)`; NaN where there are no steps.
    """
    averages = layer.blocks.half_running_average()
    first, steps = layer.blocks.window()
    deviations = tf.reduce_sum(layer.ledger.deviations_in_blocks()[first:])
    deviation = deviations / tf.cast(steps, deviations.dtype)
    # The sides of FDR1 were multiplied by η(t)/η₀.
    weight = 1 + tf.math.divide_no_nan(deviation, layer.learning_rate)
    return tf.concat([averages[:2] / weight, averages[2:]], axis=0)


def block_learning_rates(layer: "StoredRecord") -> tf.Tensor:
    """The mean learning rate of each block in use, in a graph.

    Args:
        layer: What holds the blocks; built.

    Returns:
        Float64 tensor of shape `(blocks,)`.
    """
    values = layer.blocks.read()
    steps, length = values["steps"], values["block_length"]
    starts = tf.range(tf.shape(values["sums"], "int64")[0]) * length
    counts = tf.minimum(length, steps - starts)
    deviations = layer.ledger.deviations_in_blocks()[: tf.size(counts)]
    rate = tf.convert_to_tensor(layer.learning_rate)
    return rate + deviations / tf.cast(counts, deviations.dtype)


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
