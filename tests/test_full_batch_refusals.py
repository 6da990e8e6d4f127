"""`FDRCallback(full_batch=...)`: errors before the first step, copies, and float8."""

import copy
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_fdr import FDRSGD, FDRCallback, FullBatchPass

L2 = 0.1
X = np.random.default_rng(0).normal(size=(40, 5)).astype("float32")
Y = X[:, :1] - X[:, 1:2]


def functional(kind=keras.Model, loss="mse", middle=()):
    keras.utils.set_random_seed(0)
    inputs = outputs = keras.Input((5,))
    for layer in (*middle, layers.Dense(1)):
        outputs = layer(outputs)
    model = kind(inputs, outputs)
    model.compile(FDRSGD(0.05, momentum=0.9, l2=L2), **({"loss": loss} if loss else {}))
    return model


def sequential(loss="mse", middle=()):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([*middle, layers.Dense(4), layers.Dense(1)])
    model.compile(FDRSGD(0.05, l2=L2), loss=loss)
    model.build((None, 5))
    return model


class OwnStep(keras.Model):
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((y - self(x, training=True)) ** 2)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


class OwnLoss(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **more):
        return tf.reduce_mean((y - y_pred) ** 4)


class OwnCall(keras.losses.Loss):
    def __call__(self, y_true, y_pred, sample_weight=None):
        return keras.ops.mean((y_true - y_pred) ** 2)


class Adding(layers.Layer):
    def call(self, x):
        self.add_loss(keras.ops.sum(x**2))
        return x


def total(y_true, y_pred):
    return keras.ops.sum((y_true - y_pred) ** 2)


SUM = keras.losses.MeanSquaredError(reduction="sum")
MODELS = {
    "train_step": (lambda: functional(OwnStep), r"OwnStep\.train_step"),
    "train_step_no_loss": (lambda: functional(OwnStep, None), r"OwnStep\.train_step"),
    "compute_loss": (lambda: functional(OwnLoss), r"OwnLoss\.compute_loss"),
    "own_call": (lambda: functional(loss=OwnCall()), "OwnCall, .* `__call__`"),
    "own_call_sequential": (lambda: sequential(OwnCall()), "OwnCall, .* `__call__`"),
    "scalar": (lambda: functional(loss=total), "'total' with a scalar"),
    "scalar_sequential": (lambda: sequential(total), "'total' with a scalar"),
    "sum": (lambda: functional(loss=SUM), "reduction='sum'"),
    "sum_sequential": (lambda: sequential(SUM), "reduction='sum'"),
    "add_loss": (
        lambda: functional(middle=[Adding(name="adding")]),
        "`add_loss`.*layer 'adding'",
    ),
    "add_loss_sequential": (
        lambda: sequential(middle=[Adding(name="adding")]),
        "`add_loss`.*layer 'adding'",
    ),
}


def refused(model, full_batch, words):
    """Refused by `fit`, or at once, with every variable as it was."""
    before = [np.copy(w) for w in model.get_weights()]
    steps: list = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: steps.append(batch)
    )
    with pytest.raises(
        ValueError, match=f"(?s)FDRCallback.full_batch=.*{words}"
    ) as info:
        callback = FDRCallback(factor=None, full_batch=full_batch)
        model.fit(X, Y, verbose=0, callbacks=[callback, count])
    assert "Received: " in str(info.value)
    assert not steps
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", MODELS)
def test_loss_that_is_no_mean(name):
    make, words = MODELS[name]
    refused(make(), (X, Y), words)


def slices(*parts):
    return tf.data.Dataset.from_tensor_slices(parts)


DATA = {
    "labels_none": (lambda: (X, None), "labels are None"),
    "inputs_none": (lambda: (None, Y), "Received: .*None"),
    "unbatched": (lambda: slices(X, Y), r"call `\.batch"),
    "infinite": (lambda: slices(X, Y).batch(8).repeat(), "infinite"),
    "narrow": (lambda: (X[:, :3], Y), r"Received: .*3"),
    "narrow_batches": (lambda: slices(X[:, :3], Y).batch(8), r"Received: .*3"),
    "text_labels": (lambda: (X, np.full((40, 1), "a")), "labels of dtype string"),
    "four_parts": (lambda: (X, Y, Y, Y), "4 parts"),
}


@pytest.mark.parametrize("make", [functional, sequential])
@pytest.mark.parametrize("name", DATA)
def test_data_that_the_model_cannot_take(name, make):
    full_batch, words = DATA[name]
    refused(make(), full_batch(), words)


def test_under_a_strategy():
    with tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]).scope():
        models = functional(loss=SUM), functional()
    refused(models[0], (X, Y), "reduction='sum'")
    refused(models[1], (X[:, :3], Y), r"Received: .*3")


@pytest.mark.parametrize("make", [lambda: (X, Y), lambda: slices(X, Y).batch(8)])
@pytest.mark.parametrize("model", [functional, sequential])
def test_deep_copies_work_alike(make, model):
    callback = FDRCallback(threshold=0.5, full_batch=make(), full_batch_every=2)

    def run(callback):
        options = {"epochs": 4, "shuffle": False, "verbose": 0}
        return model().fit(X, Y, callbacks=[callback], **options).history

    fresh = copy.deepcopy(callback)
    first = run(callback)
    used = copy.deepcopy(callback)
    for other in (run(fresh), run(used)):
        assert other.keys() == first.keys()
        for name, values in first.items():
            np.testing.assert_array_equal(other[name], values, err_msg=name)


class Gan(keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, x):
        return self.layer(x)

    def compile(self, d_optimizer, g_optimizer):
        super().compile()
        self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer


def test_two_optimizers_are_named():
    model = Gan(layers.Dense(1))
    model(X)
    model.compile(FDRSGD(0.05), keras.optimizers.Adam())
    with pytest.raises(ValueError, match=r"d_optimizer \(FDRSGD\), g_opt.*\(Adam\)"):
        model.fit(X, Y, verbose=0, callbacks=[FDRCallback()])


def test_one_of_two_optimizers_is_chosen():
    model = Gan(layers.Dense(1))
    model(X)
    model.compile(FDRSGD(0.05), keras.optimizers.Adam())
    callback = FDRCallback(optimizer=model.g_optimizer, factor=None)
    assert callback.optimizer is model.g_optimizer


@pytest.mark.parametrize("widths", [(8, 3), (4,)])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_scales_of_float8_are_no_weights(widths, momentum):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((5,)), *(layers.Dense(width) for width in widths)]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.quantize("float8")
    model.compile(FDRSGD(0.01, momentum=momentum, l2=L2), loss="mse")
    y = np.random.default_rng(1).normal(size=(40, widths[-1])).astype("float32")
    real = [w for layer in model.layers for w in (layer.kernel, layer.bias)]

    # A tape over one batch, and weights named by hand.
    @tf.function  # In eager mode Keras cannot differentiate float8 layers.
    def differentiate():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(X) - y) ** 2)
            loss += L2 / 2 * sum(tf.reduce_sum(w.value**2) for w in real)
        return loss, tape.gradient(loss, [w.value for w in real])

    loss, expected = differentiate()

    full_pass = FullBatchPass(model, (X, y))
    assert [id(w) for w in full_pass.weights] == [id(w) for w in real]
    found = full_pass(gradient=True)
    assert found.loss == pytest.approx(float(loss), rel=1e-4)
    # Float8 layers round the gradient of each example to 2 bits.
    for one, other in zip(found.gradient, expected, strict=True):
        assert np.linalg.norm(one - other) < 0.1 * np.linalg.norm(other)
    callback = FDRCallback(factor=None, full_batch=(X, y))
    history = model.fit(X, y, verbose=0, callbacks=[callback]).history
    assert np.isfinite(history["full_batch_dissipation"]).all()


@pytest.mark.parametrize(
    ("name", "values", "error"),
    [
        ("training", (None, 1, "yes", [True]), TypeError),
        ("verbose", (None, "1", 0.5), TypeError),
        ("verbose", (-1,), ValueError),
    ],
)
def test_arguments_of_a_pass(name, values, error):
    """The message has the argument's name and the value."""
    for value in values:
        with pytest.raises(error, match=f"`{name}` must be") as caught:
            FullBatchPass(functional(), (X, Y), **{name: value})
        assert str(caught.value).endswith(f"Received: {name}={value!r}")


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_argument_of_the_call_of_a_pass(value):
    full_batch = FullBatchPass(functional(), (X, Y))
    with pytest.raises(TypeError, match=f"`gradient` must be.*gradient={value!r}"):
        full_batch(gradient=value)


class Late(keras.Model):
    """Makes its layers when it is built."""

    def build(self, shape):
        self.dense = layers.Dense(1)

    def call(self, x):
        return self.dense(x)


def test_model_that_a_pass_builds_trains():
    """Keras tracks the layers that were made while the pass built the model."""
    model = Late()
    model.compile(FDRSGD(0.05, l2=0.01), "mse")
    full_batch = FullBatchPass(model, (X, Y))
    assert len(full_batch.weights) == len(model.trainable_variables) == 2
    before = full_batch().loss
    model.fit(X, Y, epochs=3, verbose=0)
    assert full_batch().loss < before
