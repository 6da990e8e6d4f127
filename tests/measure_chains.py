"""Long runs of real Keras optimizers on least squares, many independent ones in one.

Each weight tensor of a model is one chain: it has batches of its own, and no other
chain enters its gradient. `per_variable` then records each chain separately.
"""

import keras
import numpy as np
import tensorflow as tf

from keras_fdr import measure
from keras_fdr.landscape.compiled_loop import CompiledLoop

EXAMPLES, BATCH = 6, 2


def problem():
    """x of shape `(6, 2)` and y of shape `(6, 2)`, whose noise never vanishes."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(EXAMPLES, 2))
    x *= np.sqrt(2 / np.mean(np.sum(x**2, axis=1)))
    return x, x @ [[1.0, -2.0], [1.5, 1.0]] + rng.normal(size=(EXAMPLES, 2))


class Copies(keras.layers.Layer):
    """Multiplies the inputs of each chain by its own weights."""

    def __init__(self, count):
        super().__init__(dtype="float64", name="copies")
        self.count = count

    def build(self, input_shape):
        shape = (input_shape[-1], 2)
        self.chains = [
            self.add_weight(shape=shape, initializer="zeros", name=f"chain_{i}")
            for i in range(self.count)
        ]

    def call(self, x):
        return tf.einsum("bcp,cpq->bcq", x, tf.stack([w.value for w in self.chains]))


def squares(y, prediction):
    """½|x·θ − y|² of each example, summed over the chains."""
    return tf.reduce_sum((prediction - y) ** 2, axis=[1, 2]) / 2


class Chains:
    """Independent chains of one optimizer, measured from outside.

    Args:
        optimizer: A `keras.optimizers.Optimizer`.
        count: Integer, the number of chains.
        seed: Integer, of the batches.
        **options: Those of `measure`.
    """

    def __init__(self, optimizer, count, seed, **options):
        self.count, self._rng = count, np.random.default_rng(seed)
        x, y = problem()
        model = keras.Sequential(
            [keras.Input((count, x.shape[1]), dtype="float64"), Copies(count)]
        )
        model.compile(optimizer, loss=squares, jit_compile=False)
        optimizer.build(model.trainable_variables)
        self.model, self._loop = model, CompiledLoop(model, (x, y))
        self.measured = measure(model, per_variable=True, **options)

    def run(self, steps):
        """Each chain takes steps with batches of two different examples."""
        shape = (steps, self.count)
        first = self._rng.integers(0, EXAMPLES, shape)
        second = (first + self._rng.integers(1, EXAMPLES, shape)) % EXAMPLES
        self._loop.run(np.stack([first, second], axis=1))

    def restart(self):
        """Sets t = 0: the chains go on."""
        self.measured.observables.reset()

    def records(self):
        """A list of the chains' `Record`s."""
        return list(self.measured.observables.record_by_variable().values())

    def means(self):
        """The means of O_L and O_R over all steps of each chain, shape `(count, 2)`."""
        return np.array([r.sums.sum(axis=0) / r.steps for r in self.records()])
