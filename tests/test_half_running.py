"""The half-running average in a graph is that of `Record`, eq. (15)."""

import numpy as np
import pytest
import tensorflow as tf

from keras_fdr import Record
from keras_fdr.observables.blocks import BlockSums


@pytest.mark.parametrize("capacity", [2, 8, 64])
def test_equals_record(rng, capacity):
    """At every t up to 300, hence over up to eight merges."""
    blocks = BlockSums(capacity, 3)
    blocks.build()
    average = tf.function(blocks.half_running_average)
    assert np.isnan(average()).all()

    @tf.function
    def add(row):
        tf.cond(blocks.is_full(), blocks.merge, lambda: None)
        blocks(row)

    for t in range(1, 301):
        add(tf.constant(rng.normal(size=3) + 2))
        values = {name: value.numpy() for name, value in blocks.read().items()}
        record = Record(**values, names=("a", "b", "c"))
        expected = [record.half_running_average(name) for name in record.names]
        np.testing.assert_allclose(average(), expected, rtol=1e-12)
        assert record.steps == t
    assert capacity == 64 or record.block_length > 16


def test_nan_inside_and_outside_the_window():
    blocks = BlockSums(8, 1)
    blocks.build()
    for row in (np.nan, 1.0):
        blocks(tf.constant([row], "float64"))
    assert blocks.half_running_average().numpy() == [1.0]
    blocks(tf.constant([np.inf], "float64"))
    assert blocks.half_running_average().numpy() == [np.inf]
    blocks.clear()
    assert np.isnan(blocks.half_running_average())
