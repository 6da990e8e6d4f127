"""Any optimizer on several replicas is measured as on one device."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from measure_cases import OPTIMIZERS, data, network
from replica_runs import mirrored

from keras_fdr import FDRCallback, prepare_distributed

pytestmark = pytest.mark.filterwarnings("ignore:The loss has no L2 term")


def train(name, replicas, prepare=False, **compiled):
    def run():
        model = network(OPTIMIZERS[name](), jit_compile=False, **compiled)
        return prepare_distributed(model) if prepare else model

    if replicas > 1:
        with mirrored(replicas).scope():
            model = run()
    else:
        model = run()
    callback = FDRCallback(threshold=0.5, factor=0.5)
    x, y = (a.astype("float32") for a in data())
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    model.fit(dataset, epochs=3, shuffle=False, verbose=0, callbacks=[callback])
    return model, callback


@pytest.mark.parametrize("name", ["SGD momentum", "Adam", "AdamW"])
def test_two_replicas_give_the_rows_of_one_device(name):
    one, on_one = train(name, 1)
    two, on_two = train(name, 2)
    scale = np.abs(on_one.record.sums[:, 1]).max()
    np.testing.assert_allclose(
        on_two.record.sums[:, :2], on_one.record.sums[:, :2], atol=1e-5 * scale
    )
    np.testing.assert_allclose(
        on_two.record.sums[:, 4], on_one.record.sums[:, 4], rtol=1e-5
    )
    assert len(on_two.cuts) == len(on_one.cuts)
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    # Each device holds the same record.
    sums = two.optimizer.observables.blocks.sums.value
    copies = [copy.numpy() for copy in sums.values]
    np.testing.assert_array_equal(copies[0], copies[1])


def test_several_steps_a_call_on_two_replicas():
    _, one = train("Adam", 1)
    _, two = train("Adam", 2, prepare=True, steps_per_execution=3)
    scale = np.abs(one.record.sums[:, 1]).max()
    np.testing.assert_allclose(
        two.record.sums[:, :2], one.record.sums[:, :2], atol=1e-5 * scale
    )


def test_mixed_precision_on_two_replicas():
    keras.config.set_dtype_policy("mixed_float16")
    with mirrored(2).scope():
        model = network(keras.optimizers.Adam(0.01), dtype=None, jit_compile=False)
    callback = FDRCallback(factor=None)
    x, y = (a.astype("float32") for a in data())
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    model.fit(dataset, epochs=3, shuffle=False, verbose=0, callbacks=[callback])
    # Steps whose gradients overflow are none.
    assert 5 < callback.record.steps <= 15
    assert np.isfinite(callback.record.sums[:, [0, 1, 4]]).all()
