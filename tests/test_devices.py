"""Where a step is measured, and that it copies no weight."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_fdr import FDRSGD, FDRCallback, FDRObservables
from keras_fdr.batches import reshuffled_order, whole_batches
from keras_fdr.landscape.compiled_loop import CompiledLoop


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 300)).astype("float32")
    return x, rng.integers(0, 10, 40)


def network():
    return keras.Sequential(
        [
            keras.Input((300,)),
            keras.layers.Dense(200, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


def addresses(variables):
    """Where the values lie in memory; on a CPU NumPy shares them."""
    values = (memoryview(v.value.read_value()) for v in variables)
    return [np.asarray(v).__array_interface__["data"][0] for v in values]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_weights_and_velocities_change_in_place(momentum):
    # A weight that changes while its old value is still to be read would be copied.
    model = network()
    model.compile(FDRSGD(0.1, momentum, l2=0.01), "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    loop = CompiledLoop(model, data())
    batches = whole_batches(reshuffled_order(np.random.default_rng(0), 40), 8)
    loop.run(batches)
    state = [*model.trainable_variables, *model.optimizer.velocities]
    before, values = addresses(state), [v.numpy() for v in state]
    for _ in range(5):
        loop.run(batches)
    assert addresses(state) == before
    for old, variable in zip(values, state, strict=True):
        assert not np.array_equal(old, variable.numpy())


class Placed(FDRObservables):
    """Remembers on which devices it is called."""

    def __call__(self, theta, gradient, velocity, **scalars):
        row = super().__call__(theta, gradient, velocity, **scalars)
        # Reads of weights and velocities are placed later, where these are.
        self.seen.append({t.device for t in [*gradient, row]})
        return row


@pytest.mark.parametrize("first", [0, 2])
def test_a_step_is_measured_where_the_weights_are(first):
    # Logical CPUs stand for GPUs.
    names = [f"CPU:{first}", f"CPU:{first + 1}"]
    reduction = tf.distribute.ReductionToOneDevice()
    with tf.distribute.MirroredStrategy(names, reduction).scope():
        observables = Placed()
        observables.seen = []
        model = network()
        model.compile(
            FDRSGD(0.1, 0.9, l2=0.01, observables=observables),
            "sparse_categorical_crossentropy",
        )
    model.fit(*data(), batch_size=8, verbose=0, callbacks=[FDRCallback(factor=None)])
    assert observables.record().steps == 5
    devices = [f"/job:localhost/replica:0/task:0/device:{name}" for name in names]
    assert {d for seen in observables.seen for d in seen} == set(devices)
    assert all(len(seen) == 1 for seen in observables.seen)
