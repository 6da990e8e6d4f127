"""Steps of FDRSGD that read and move only the rows of an embedding that have words."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from graph_cases import tensors_of_shape
from identity import UNIT_ROUNDOFF, residual, rounding_bound, zeros
from replica_runs import mirrored

from keras_fdr import FDRSGD, FDRCallback, FDRObservables, prepare_distributed

pytestmark = pytest.mark.filterwarnings("ignore:The loss has no L2 term")
WORDS, WIDTH = 50, 4
DATA = np.random.default_rng(0)
# Most words never come. Some come several times in a batch.
X = DATA.integers(0, 12, (44, 3)).astype("int32")
Y = DATA.normal(size=(44, 2)).astype("float32")


class DenseSGD(FDRSGD):
    """The same optimizer, with a gradient for every row."""

    def moves_touched_rows_only(self):
        return False


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(WORDS, WIDTH),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )


def train(optimizer, model=None, epochs=4, with_callback=True, **compile_arguments):
    """Trains in batches of 8 with a ragged last one of 4."""
    model = model or network()
    compile_arguments.setdefault("jit_compile", False)
    model.compile(optimizer, "mse", **compile_arguments)
    if tf.distribute.has_strategy():
        prepare_distributed(model)
    callbacks = [FDRCallback(factor=None)] if with_callback else []
    fitting = {"shuffle": False, "verbose": 0, "callbacks": callbacks}
    model.fit(X, Y, batch_size=8, epochs=epochs, **fitting)
    return model


def weights(model):
    return [w.astype("float64") for w in model.get_weights()]


def observables(model):
    optimizer = model.optimizer
    return getattr(optimizer, "inner_optimizer", optimizer).observables


def assert_same_weights(model, other, steps):
    """To one rounding of θ_i and one of η g_i, per step, not amplified here."""
    for ours, theirs in zip(weights(model), weights(other), strict=True):
        bound = 4 * steps * UNIT_ROUNDOFF * (np.abs(theirs).max() + 1e-3)
        assert np.abs(ours - theirs).max() <= bound


def assert_same_rows(ours, theirs):
    """To 1e-5 of the largest row: O_L is a sum of terms of both signs."""
    assert ours.steps == theirs.steps > 0
    scale = np.abs(theirs.sums).max(axis=0)
    assert (np.abs(ours.sums - theirs.sums) <= 1e-5 * scale).all()


def decaying():
    return keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.9)


@pytest.mark.parametrize("center", [None, "initial"])
@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"dampening": 0.4},
        {"learning_rate": decaying},
        {"steps_per_execution": 3},
    ],
    ids=lambda setting: next(iter(setting), "plain"),
)
def test_weights_and_rows_are_those_of_the_dense_step(center, setting):
    models = []
    for kind in (FDRSGD, DenseSGD):
        options = {"learning_rate": 0.1, **setting}
        steps_per_execution = options.pop("steps_per_execution", 1)
        if callable(options["learning_rate"]):
            options["learning_rate"] = options["learning_rate"]()
        record = FDRObservables(center=center, per_variable=True)
        optimizer = kind(**options, observables=record)
        models.append(train(optimizer, steps_per_execution=steps_per_execution))
    assert_same_weights(*models, steps=24)
    ours, theirs = (observables(m).record() for m in models)
    assert ours.steps == theirs.steps == 24
    assert_same_rows(ours, theirs)
    each = (observables(m).record_by_variable().values() for m in models)
    for ours, theirs in zip(*each, strict=True):
        assert_same_rows(ours, theirs)


@pytest.mark.parametrize("center", [None, "initial"])
@pytest.mark.parametrize("nu", [0.0, 0.3])
def test_identity(center, nu):
    model = network()
    before = weights(model)
    optimizer = FDRSGD(0.1, 0.0, nu, observables=FDRObservables(center=center))
    train(optimizer, model)
    record, after = optimizer.observables.record(), weights(model)
    theta_c = before if center else zeros(before)
    ends = (before, zeros(before)), (after, zeros(after))
    bound = rounding_bound(record, ends[1], optimizer, theta_c)
    assert residual(record, *ends, optimizer, theta_c) < min(bound, 1e-5)
    assert optimizer.weights_unchanged()


def test_a_step_by_hand():
    """A gradient with a repeated row, against NumPy in float64."""
    theta = DATA.normal(size=(6, 2))
    slices, rows = DATA.normal(size=(4, 2)), [3, 1, 3, 0]
    weight = keras.Variable(theta, dtype="float64", name="words")
    optimizer = FDRSGD(0.1, dampening=0.2)
    optimizer.build([weight])

    @tf.function(autograph=False)
    def step():
        shape = tf.constant([6, 2], "int64")
        gradient = tf.IndexedSlices(tf.constant(slices), tf.constant(rows), shape)
        optimizer.apply([gradient], [weight])

    step()
    gradient = np.zeros((6, 2))
    np.add.at(gradient, rows, slices)
    # The learning rate is a float32 variable.
    np.testing.assert_allclose(weight.numpy(), theta - 0.08 * gradient, rtol=1e-7)
    row = optimizer.observables.record().sums[0]
    square = (gradient**2).sum()
    expected = [(theta * gradient).sum(), 0.5 * 0.8 * 0.1 * square, 0, square]
    np.testing.assert_allclose(row[:4], expected, rtol=1e-6)


def whole_tensors(optimizer):
    model = network()
    model.compile(optimizer, "mse", jit_compile=False)
    return tensors_of_shape(model, X[:8], Y[:8], (WORDS, WIDTH))


@pytest.mark.parametrize("center", [None, "initial"])
def test_a_step_makes_no_tensor_of_the_whole_embedding(center):
    counts = [
        whole_tensors(kind(0.1, observables=FDRObservables(center=center)))
        for kind in (FDRSGD, DenseSGD)
    ]
    # The layer of Keras reads its weight whole.
    stock = whole_tensors(keras.optimizers.SGD(0.1))
    assert counts[0] == stock < counts[1]


@pytest.mark.parametrize(
    "setting",
    [
        {"momentum": 0.5},
        {"l2": 0.1},
        {"clipnorm": 0.1},
        {"global_clipnorm": 0.1},
        {"clipvalue": 0.1},
        {"gradient_accumulation_steps": 2},
        {"loss_scale_factor": 8.0},
        {"use_ema": True},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_other_steps_are_dense(setting):
    """Here something else needs every row, so the gradient has every row, too."""
    models = [train(kind(0.1, **setting), epochs=1) for kind in (FDRSGD, DenseSGD)]
    for ours, theirs in zip(*map(weights, models), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_regularizer_makes_the_gradient_dense():
    models = []
    for kind in (FDRSGD, DenseSGD):
        model = network()
        model.layers[0].embeddings_regularizer = keras.regularizers.L2(0.05)
        models.append(train(kind(0.1), model))
    assert_same_weights(*models, steps=24)


@pytest.mark.parametrize("replicas", [1, 2])
def test_replicas(replicas):
    with mirrored(replicas).scope():
        model = network()
        train(FDRSGD(0.1), model)
    single = train(FDRSGD(0.1))
    assert_same_weights(model, single, steps=24)
    assert_same_rows(*(observables(m).record() for m in (model, single)))


@pytest.mark.parametrize("with_callback", [True, False])
def test_loss_scaling(with_callback):
    """`LossScaleOptimizer` hands scaled gradients on, in a branch."""
    keras.config.set_dtype_policy("mixed_float16")
    models = []
    for kind in (FDRSGD, DenseSGD):
        models.append(train(kind(0.1), with_callback=with_callback))
    assert_same_weights(*models, steps=24)
    ours, theirs = (observables(m).record() for m in models)
    assert ours.steps == theirs.steps > 0
    # Without the callback nobody tells the optimizer the loss.
    np.testing.assert_allclose(ours.sums[:, :4], theirs.sums[:, :4], rtol=1e-4)


@pytest.mark.xla
def test_xla():
    """XLA gets the dense step."""
    models = [train(kind(0.1), jit_compile=True) for kind in (FDRSGD, DenseSGD)]
    for ours, theirs in zip(*map(weights, models), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert_same_weights(models[0], train(FDRSGD(0.1)), steps=24)


def test_eager_steps_are_not_traced_again():
    """An eager step is dense, because the number of rows changes from step to step."""
    model = train(FDRSGD(0.1), run_eagerly=True)
    assert_same_weights(model, train(FDRSGD(0.1)), steps=24)
    assert model.optimizer.observables.call.experimental_get_tracing_count() == 1
