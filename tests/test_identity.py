"""FDRSGD in `fit` obeys the exact identity, on every kind of model and setting."""

from contextlib import nullcontext
from itertools import product

import keras
import numpy as np
import pytest
from identity import Snapshot, arrays, residual, rounding_bound, zeros

from keras_fdr import FDRSGD, FDRObservables

layers = keras.layers
MOMENTA = [(0.0, 0.0), (0.9, 0.0), (0.5, 0.3)]


def dense():
    inputs = keras.Input((64,))
    hidden = layers.Dense(16, activation="relu")(inputs)
    return keras.Model(inputs, layers.Dense(10)(hidden))


def convolutional():
    inputs = keras.Input((64,))
    image = layers.Reshape((8, 8, 1))(inputs)
    image = layers.Conv2D(4, 3, activation="relu")(image)
    image = layers.MaxPooling2D()(image)
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(image)))


def embedding():
    """Sparse gradients, with repeated indices: the pixels' grey levels as words."""
    inputs = keras.Input((64,))
    words = layers.Lambda(lambda x: keras.ops.cast(16 * x, "int32"))(inputs)
    vectors = layers.Embedding(17, 3)(words)
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(vectors)))


def shared():
    inputs = keras.Input((64,))
    twice = layers.Dense(64, activation="tanh")
    return keras.Model(inputs, layers.Dense(10)(twice(twice(inputs))))


def frozen():
    model = dense()
    model.layers[1].trainable = False
    return model


def normalised():
    inputs = keras.Input((64,))
    hidden = layers.Dense(16, use_bias=False)(inputs)
    hidden = layers.ReLU()(layers.BatchNormalization()(hidden))
    return keras.Model(inputs, layers.Dense(10)(hidden))


class Unused(layers.Layer):
    """Owns a weight that the loss does not depend on."""

    def build(self, input_shape):
        self.idle = self.add_weight(shape=(3,), initializer="ones")

    def call(self, inputs):
        return inputs


def without_gradient():
    inputs = keras.Input((64,))
    return keras.Model(inputs, layers.Dense(10)(Unused()(inputs)))


MODELS = [convolutional, embedding, shared, frozen, normalised, without_gradient]


def train(model, optimizer, digits, epochs=3, **compile_arguments):
    """Trains on batches of 30 with a ragged last one; returns (θ, v) at both ends."""
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **compile_arguments,
    )
    theta = arrays(model.trainable_variables)
    snapshot = Snapshot()
    model.fit(*digits, batch_size=30, epochs=epochs, verbose=0, callbacks=[snapshot])
    return (theta, zeros(theta)), (snapshot.theta, snapshot.velocity)


def check(optimizer, before, after, steps, limit=1e-5):
    record = optimizer.observables.record()
    assert record.steps == steps
    assert (record.sums[:, 1] > 0).all()
    centered = optimizer.observables.center == "initial"
    theta_c = before[0] if centered else zeros(before[0])
    assert residual(record, before, after, optimizer, theta_c) < limit
    return record, theta_c


# (μ, ν), center, steps_per_execution, jit_compile. The dense network sees all of the
# first two with two ways of execution, and the other two ways once; every other
# network each value of each at least once.
PRODUCT = [
    *product(MOMENTA, [None, "initial"], [1], [False]),
    *product(MOMENTA, [None, "initial"], [8], [True]),
    *product([(0.9, 0.0)], [None], [8], [False]),
    *product([(0.9, 0.0)], [None], [1], [True]),
]
EACH = [
    ((0.0, 0.0), None, 1, False),
    ((0.9, 0.0), "initial", 8, True),
    ((0.5, 0.3), None, 8, False),
]


@pytest.mark.parametrize(
    "model, case",
    [
        pytest.param(model, case, marks=[pytest.mark.xla] if case[-1] else [])
        for model, case in [*product([dense], PRODUCT), *product(MODELS, EACH)]
    ],
)
def test_models(digits, model, case):
    momenta, center, steps_per_execution, jit = case
    optimizer = FDRSGD(0.2, *momenta, observables=FDRObservables(center=center))
    idle = model is without_gradient
    with pytest.warns(match="Gradients do not exist") if idle else nullcontext():
        before, after = train(
            model(),
            optimizer,
            digits,
            steps_per_execution=steps_per_execution,
            jit_compile=jit,
        )
    check(optimizer, before, after, steps=21)


# Each with every (μ, ν), and once compiled by XLA.
@pytest.mark.parametrize(
    "mu, nu, jit",
    [
        *((*m, False) for m in MOMENTA),
        pytest.param(0.5, 0.3, True, marks=pytest.mark.xla),
    ],
)
@pytest.mark.parametrize(
    "setting",
    [
        {"l2": 0.01},
        {"clipnorm": 0.2},
        {"clipvalue": 0.02},
        {"global_clipnorm": 0.3, "l2": 0.01},
        {"gradient_accumulation_steps": 3, "l2": 0.01},
        {"gradient_accumulation_steps": 3, "global_clipnorm": 0.3},
        {"loss_scale_factor": 128.0, "l2": 0.01},
        {"use_ema": True, "ema_momentum": 0.9},
    ],
    ids=lambda setting: "+".join(setting),
)
def test_settings(digits, setting, mu, nu, jit):
    # θ_c at the start: where clipping makes O_R small, the rounding of θ itself
    # would be more than 1e-5 of it.
    optimizer = FDRSGD(
        0.2, mu, nu, observables=FDRObservables(center="initial"), **setting
    )
    before, after = train(dense(), optimizer, digits, jit_compile=jit)
    accumulated = setting.get("gradient_accumulation_steps", 1)
    check(optimizer, before, after, steps=21 // accumulated)


@pytest.mark.parametrize("setting", ["clipnorm", "clipvalue", "global_clipnorm"])
def test_clipping_was_active(digits, setting):
    """The settings above clip: the same run unclipped has larger gradients."""
    limit = {"clipnorm": 0.2, "clipvalue": 0.02, "global_clipnorm": 0.3}[setting]
    norms = []
    for arguments in ({}, {setting: limit}):
        keras.utils.set_random_seed(0)
        optimizer = FDRSGD(0.2, **arguments)
        train(dense(), optimizer, digits)
        record = optimizer.observables.record()
        norms.append(record.half_running_average("gradient_norm_squared"))
    assert norms[1] < 0.9 * norms[0]


def masked():
    """A sequence with padding: the loss is a mean over the valid steps."""
    inputs = keras.Input((64,))
    words = layers.Lambda(lambda x: keras.ops.cast(16 * x, "int32"))(inputs)
    vectors = layers.Embedding(17, 4, mask_zero=True)(words)
    return keras.Model(inputs, layers.Dense(1)(vectors))


def check_loss(model, x, y, reduction="sum_over_batch_size", sample_weight=None):
    """The identity, and the recorded loss against `evaluate` before each step."""
    optimizer = FDRSGD(0.1, 0.5)
    model.compile(
        optimizer=optimizer, loss=keras.losses.MeanSquaredError(reduction=reduction)
    )
    theta = arrays(model.trainable_variables)
    losses = []
    for i in range(0, 40, 20):
        weights = None if sample_weight is None else sample_weight[i : i + 20]
        batch = x[i : i + 20], y[i : i + 20], weights
        losses.append(model.evaluate(*batch[:2], sample_weight=weights, verbose=0))
        model.train_on_batch(*batch)
    before = theta, zeros(theta)
    after = arrays(model.trainable_variables), arrays(optimizer.velocities)
    record, _ = check(optimizer, before, after, steps=2)
    # Keras' running mean of one batch's loss is that batch's loss.
    np.testing.assert_allclose(record.block_means("loss")[1], losses, rtol=1e-5)


def test_losses_that_are_no_plain_mean(digits):
    """Sums, sample weights and masks: f^B is what Keras makes of them."""
    x, y = digits
    one_hot = keras.ops.one_hot(y, 10).numpy()
    weights = np.linspace(0, 3, len(x)).astype("float32")
    check_loss(dense(), x, 0.1 * one_hot, reduction="sum")
    check_loss(dense(), x, one_hot, sample_weight=weights)
    check_loss(masked(), x, x[..., None])


@pytest.mark.parametrize("mu, nu", MOMENTA)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(digits, policy, mu, nu):
    keras.config.set_dtype_policy(policy)
    optimizer = FDRSGD(0.2, mu, nu, l2=0.01)
    before, after = train(dense(), optimizer, digits)
    record = optimizer.observables.record()
    check(optimizer, before, after, steps=record.steps)
    # A step whose scaled gradients overflow is skipped, by Keras and by the record.
    assert record.steps == int(optimizer.iterations.numpy()) >= 15


def test_float64():
    keras.config.set_dtype_policy("float64")
    keras.config.set_floatx("float64")
    try:
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(60, 64)), rng.integers(0, 10, 60)
        optimizer = FDRSGD(
            0.001, 0.9, 0.1, observables=FDRObservables(center="initial")
        )
        before, after = train(dense(), optimizer, (x, y))
        check(optimizer, before, after, steps=6, limit=1e-12)
    finally:
        keras.config.set_floatx("float32")


def test_unfreezing(digits):
    """A frozen layer is no part of θ; after a new `compile` it is."""
    model = frozen()
    optimizer = FDRSGD(0.2, 0.9)
    before, after = train(model, optimizer, digits)
    assert len(before[0]) == 2
    check(optimizer, before, after, steps=21)
    model.layers[1].trainable = True
    optimizer = FDRSGD(0.2, 0.9)
    before, after = train(model, optimizer, digits)
    assert len(before[0]) == 4
    check(optimizer, before, after, steps=21)


@pytest.mark.parametrize("mu, nu", MOMENTA)
@pytest.mark.parametrize("eta", [0.01, 0.001])
def test_small_learning_rates(digits, eta, mu, nu):
    """Where η is small, Q divides the rounding of θ by it: the bound says how much."""
    optimizer = FDRSGD(eta, mu, nu)
    before, after = train(dense(), optimizer, digits, epochs=10)
    record = optimizer.observables.record()
    bound = rounding_bound(record, after, optimizer, zeros(after[0]))
    check(optimizer, before, after, steps=70, limit=bound)


def test_beyond_the_capacity(digits):
    """Merging blocks loses no row."""
    optimizer = FDRSGD(0.2, 0.9, observables=FDRObservables(capacity=4))
    before, after = train(dense(), optimizer, digits, epochs=10)
    record, _ = check(optimizer, before, after, steps=70)
    assert record.block_length == 32


@pytest.mark.parametrize("wrong", ["fluctuation", "dissipation"])
def test_a_wrong_observable_is_caught(digits, wrong):
    """The check itself fails if a column is off by a thousandth."""
    optimizer = FDRSGD(0.2, 0.9)
    before, after = train(dense(), optimizer, digits)
    record, theta_c = check(optimizer, before, after, steps=21)
    record.sums[:, record.names.index(wrong)] *= 1.001
    assert residual(record, before, after, optimizer, theta_c) > 1e-5
