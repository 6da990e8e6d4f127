"""Data whose end Keras learns by starting one step too many."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from replica_runs import copies_differ, inner, mirrored

from keras_fdr import FDRSGD, FDRCallback, FDRObservables

# Keras' own word for the end of such data.
pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data")

EPOCHS, BATCH, STEPS = 3, 8, 5
# The last batch is smaller.
EXAMPLES = 37


def _data():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(EXAMPLES, 5)).astype("float32")
    return x, x @ rng.normal(size=(5, 1)).astype("float32") + 1


def _known():
    return tf.data.Dataset.from_tensor_slices(_data()).batch(BATCH)


def _filtered():
    dataset = tf.data.Dataset.from_tensor_slices(_data())
    return dataset.filter(lambda x, y: True).batch(BATCH)


def _batches():
    x, y = _data()
    for start in range(0, EXAMPLES, BATCH):
        yield x[start : start + BATCH], y[start : start + BATCH]


def _from_generator():
    signature = tf.TensorSpec((None, 5)), tf.TensorSpec((None, 1))
    return tf.data.Dataset.from_generator(_batches, output_signature=signature)


def _python_generator():
    # It serves one epoch, so `fit` gets all epochs as one.
    return (batch for _ in range(EPOCHS) for batch in _batches())


def _fit(data, strategy=None, jit_compile=False, **arguments):
    """A trained model; the optimizer is `FDRSGD` with these arguments."""
    keras.utils.set_random_seed(0)
    with strategy.scope() if strategy else contextlib.nullcontext():
        layers = [keras.Input((5,)), keras.layers.Dense(3), keras.layers.Dense(1)]
        model = keras.Sequential(layers)
        observables = FDRObservables(capacity=8, per_variable=True)
        optimizer = FDRSGD(0.02, l2=0.01, observables=observables, **arguments)
        model.compile(optimizer, "mse", jit_compile=jit_compile)
    epochs = EPOCHS if isinstance(data, tf.data.Dataset) else 1
    fdr = FDRCallback(factor=None)
    model.fit(data, epochs=epochs, shuffle=False, verbose=0, callbacks=[fdr])
    return model


def _check_same(model, reference, steps=EPOCHS * STEPS):
    optimizer, like = inner(model), inner(reference)
    assert optimizer.iterations.numpy() == steps
    assert like.iterations.numpy() == steps
    _check_records(optimizer.observables, like.observables)
    for ours, theirs in zip(optimizer.variables, like.variables, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(model.weights, reference.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def _check_records(observables, like):
    pairs = [(observables.record(), like.record())]
    by_variable = like.record_by_variable()
    assert len(by_variable) == 4
    for record in zip(
        observables.record_by_variable().values(), by_variable.values(), strict=True
    ):
        pairs.append(record)
    for ours, theirs in pairs:
        assert ours.steps == theirs.steps
        assert ours.block_length == theirs.block_length
        np.testing.assert_allclose(ours.sums, theirs.sums, rtol=1e-4, atol=1e-6)
    assert observables.restart_count() == 0


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("source", [_filtered, _from_generator, _python_generator])
def test_record_is_that_of_known_length(source, momentum):
    """Also of each weight tensor, in blocks that have merged."""
    model = _fit(source(), momentum=momentum)
    _check_same(model, _fit(_known(), momentum=momentum))


def test_under_xla():
    model = _fit(_filtered(), momentum=0.9, jit_compile=True)
    _check_same(model, _fit(_known(), momentum=0.9))


def test_moving_average_of_the_weights():
    model = _fit(_filtered(), use_ema=True, ema_momentum=0.5)
    _check_same(model, _fit(_known(), use_ema=True, ema_momentum=0.5))


@pytest.mark.parametrize("source", [_filtered, _python_generator])
def test_accumulation(source):
    """Five batches an epoch, two an update: an end falls between the two."""
    arguments = {"momentum": 0.9, "gradient_accumulation_steps": 2}
    model, reference = _fit(source(), **arguments), _fit(_known(), **arguments)
    assert inner(model).observables.record().steps == EPOCHS * STEPS // 2
    _check_same(model, reference, steps=EPOCHS * STEPS // 2)
    assert inner(model).batch_count.numpy() == EPOCHS * STEPS


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_two_replicas(momentum):
    model = _fit(_filtered(), strategy=mirrored(2), momentum=momentum)
    _check_same(model, _fit(_known(), momentum=momentum))
    assert copies_differ(model) == []


def test_loss_scaling():
    keras.config.set_dtype_policy("mixed_float16")
    model, reference = _fit(_filtered()), _fit(_known())
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    # Steps whose gradients overflow are skipped, and the rows with them.
    updates = inner(reference).iterations.numpy()
    assert updates > EPOCHS
    _check_same(model, reference, steps=updates)


def test_gradient_that_does_not_need_the_batch():
    """The loss still does: here the gradient of the only weight is constant."""

    class Shift(keras.layers.Layer):
        def build(self, shape):
            self.shift = self.add_weight(shape=(1,), initializer="zeros", name="shift")

        def call(self, x):
            return x + self.shift

    def total(data):
        model = keras.Sequential([keras.Input((1,)), Shift()])
        model.compile(FDRSGD(0.01, l2=0.01), loss=lambda y, p: p - y, jit_compile=False)
        fdr = FDRCallback(factor=None)
        model.fit(data, epochs=2, verbose=0, shuffle=False, callbacks=[fdr])
        return fdr.record, model.get_weights()[0]

    numbers = tf.data.Dataset.from_tensor_slices(np.ones((12, 1), "float32"))
    pairs = numbers.map(lambda x: (x, 2 * x))
    record, shift = total(pairs.filter(lambda x, y: True).batch(4))
    like, right = total(pairs.batch(4))
    assert record.steps == like.steps == 6
    np.testing.assert_allclose(record.sums, like.sums, rtol=1e-5)
    np.testing.assert_allclose(shift, right, rtol=1e-5)
