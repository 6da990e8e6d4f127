"""How the learning rate changes within one record."""

import keras
import tensorflow as tf

from keras_fdr.saving import SavedState


class RateChanges(SavedState, keras.layers.Layer):
    """Sums of η(t) − η₀ over the blocks of a record, and the newest of them.

    η₀ is the rate that the record began with, in whose units its rows are kept. All
    numbers are 0 while the rate is constant, so files of older code, which lack this
    layer, mean what they always meant.

    Args:
        capacity: even integer, at least 2. The number of blocks.
    """

    may_be_missing = True

    def __init__(self, capacity: int, **kwargs):
        super().__init__(trainable=False, dtype="float64", autocast=False, **kwargs)
        self.capacity = capacity

    def build(self, input_shape=None):
        """Creates the variables; the shapes are known, so none is needed."""
        del input_shape
        once = {
            "trainable": False,
            "initializer": "zeros",
            "aggregation": "only_first_replica",
        }
        self.deviations = self.add_weight(
            shape=(self.capacity,), name="deviations", **once
        )
        # η − η₀ of the newest step, and 1 if that step changed the rate.
        self.newest = self.add_weight(shape=(2,), name="newest", **once)
        self.load_waiting()

    def saved_settings(self):
        """The number of blocks."""
        return {"capacity": self.capacity}

    def add(self, block: tf.Tensor, deviation: tf.Tensor, changed: tf.Tensor):
        """Adds one step.

        Args:
            block: scalar integer tensor, the block that the step belongs to.
            deviation: scalar float64 tensor, η(t) − η₀.
            changed: scalar bool tensor, whether η(t) differs from η(t−1).
        """
        row = tf.IndexedSlices(deviation[None], block[None])
        self.deviations.value.scatter_add(row)
        self.newest.assign(tf.stack([deviation, tf.cast(changed, "float64")]))

    def merge(self):
        """Adds neighbouring blocks, as `BlockSums.merge` does."""
        half = self.capacity // 2
        merged = tf.reduce_sum(tf.reshape(self.deviations, (half, 2)), axis=1)
        self.deviations.assign(tf.pad(merged, [[0, self.capacity - half]]))

    def load_nothing(self):
        """A file without this layer holds a record at one rate."""
        self.clear()

    def clear(self):
        """Sets t = 0."""
        self.deviations.assign(tf.zeros_like(self.deviations))
        self.newest.assign(tf.zeros_like(self.newest))
