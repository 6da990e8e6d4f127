"""A record of fixed size: sums of rows over blocks that double in length."""

from typing import Any

import keras
import tensorflow as tf

from keras_fdr.state_layer import StateLayer, StateVariable


class BlockSums(StateLayer):
    """Sums of equally long rows over consecutive blocks of steps.

    Row `t` is added to block `(t - 1) // block_length`. When all `capacity`
    blocks are full, neighbours are added and `block_length` doubles, so any
    number of steps fits into the same memory, no row is lost, and every block
    but the newest is complete. Sums are kept in float64: float32 sums of 20,000
    rows were off by up to 2e-4.

    Args:
        capacity: even integer, at least 2. The number of blocks.
        width: integer. The length of a row.
    """

    sums: keras.Variable
    steps: keras.Variable
    block_length: keras.Variable

    def __init__(self, capacity: int, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.capacity = capacity
        self.width = width

    def state_variables(self) -> list[StateVariable]:
        """The sums of each block, the steps t, and the steps of a full block."""
        return [
            StateVariable("sums", "sums", (self.capacity, self.width)),
            StateVariable("steps", "steps", dtype="int64"),
            StateVariable(
                "block_length", "block_length", dtype="int64", initializer="ones"
            ),
        ]

    def saved_settings(self) -> dict[str, Any]:
        """The size of the table."""
        return {"capacity": self.capacity, "width": self.width}

    def is_full(self) -> tf.Tensor:
        """Scalar bool tensor: no row can be added before `merge`."""
        limit = self.capacity * tf.convert_to_tensor(self.block_length)
        return tf.equal(self.steps, limit)

    def merge(self) -> None:
        """Adds neighbouring blocks and doubles their length."""
        half = self.capacity // 2
        pairs = tf.reshape(self.sums, (half, 2, self.width))
        merged = tf.reduce_sum(pairs, axis=1)
        self.sums.assign(tf.pad(merged, [[0, self.capacity - half], [0, 0]]))
        self.block_length.assign(2 * self.block_length)

    def clear(self) -> None:
        """Sets t = 0."""
        self.sums.assign(tf.zeros_like(self.sums))
        self.steps.assign(0)
        self.block_length.assign(1)

    def read(self) -> dict[str, tf.Tensor]:
        """Tensors: `sums` of the blocks in use, `steps` and `block_length`."""
        steps, length = map(tf.convert_to_tensor, (self.steps, self.block_length))
        blocks = (steps + length - 1) // length
        return {
            "sums": tf.convert_to_tensor(self.sums)[:blocks],
            "steps": steps,
            "block_length": length,
        }

    def fetch(self) -> dict[str, Any]:
        """What `read` gives, from outside of any graph: NumPy array and integers."""
        steps, length = int(self.steps.numpy()), int(self.block_length.numpy())
        blocks = -(-steps // length)
        # The blocks are cut out in NumPy, because on the device each operation would be
        # a separate call.
        return {
            "sums": self.sums.numpy()[:blocks],
            "steps": steps,
            "block_length": length,
        }

    def half_running_average(self) -> tf.Tensor:
        """Ō(t) of every column, eq. (15): `Record.half_running_average` in a graph.

        Returns:
            Float64 tensor of shape `(width,)`; NaN where there are no rows.
        """
        first, steps = self.window()
        window = tf.reduce_sum(self.read()["sums"][first:], axis=0)
        return window / tf.cast(steps, window.dtype)

    def window(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The first block of the newest half, and the steps from there on."""
        steps, length = map(tf.convert_to_tensor, (self.steps, self.block_length))
        # This is the block boundary nearest to ⌊t/2⌋, or the earlier one of two equally
        # near ones. In integers it is ⌈⌊t/2⌋/length − 1/2⌉.
        first = (2 * (steps // 2) + length - 1) // (2 * length)
        return first, steps - first * length

    def call(self, row: tf.Tensor) -> tf.Tensor:
        """Adds one row, a float64 tensor of shape `(width,)`; not when full."""
        block = tf.convert_to_tensor(self.steps) // self.block_length
        self.sums.value.scatter_add(tf.IndexedSlices(row, block))
        self.steps.assign_add(1)
        return row
