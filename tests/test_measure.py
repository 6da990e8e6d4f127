"""Any Keras optimizer, measured from outside: the exact identity, and stock weights."""

import keras
import numpy as np
import pytest
from graph_cases import tensors_of_shape
from measure_cases import (
    OPTIMIZERS,
    RATES,
    SETTINGS,
    Weights,
    data,
    displacement_sums,
    drift,
    network,
)

from keras_fdr import FDRSGD, FDRCallback, FDRObservables, measure
from keras_fdr.measured import memory_of

pytestmark = pytest.mark.filterwarnings("ignore:The loss has no L2 term")


def train(model, callback=True, epochs=5, **arguments):
    """The callback, and the weights after each step."""
    x, y = data()
    weights = Weights()
    callbacks = [weights]
    if callback:
        callbacks = [FDRCallback(factor=None), weights]
    model.fit(
        x,
        y,
        **{
            "batch_size": 5,
            "epochs": epochs,
            "shuffle": False,
            "verbose": 0,
            "callbacks": callbacks,
            **arguments,
        },
    )
    return callbacks[0], np.array(weights.theta)


def check_identity(model, callback, theta, tolerance, optimizer=None):
    """The identity, and both sums, from the weights alone."""
    optimizer = optimizer or model.optimizer
    beta = optimizer.observables.beta
    record = callback.record
    unit = record.learning_rate
    left, right = record.sums[:, :2].sum(axis=0) * unit
    expected_left, expected_right = displacement_sums(theta, beta)
    scale = tolerance * expected_right
    assert expected_right > 0
    assert left == pytest.approx(expected_left, abs=scale)
    assert right == pytest.approx(expected_right, abs=scale)
    assert left - right == pytest.approx(-drift(theta, beta), abs=scale)


def test_every_optimizer_of_keras_is_in_the_table():
    known = {type(make()) for make in OPTIMIZERS.values()}
    kinds = {
        value
        for value in vars(keras.optimizers).values()
        if isinstance(value, type) and issubclass(value, keras.optimizers.Optimizer)
    }
    wrappers = {
        keras.optimizers.Optimizer,
        keras.optimizers.LossScaleOptimizer,  # in `test_mixed_float16`
        keras.optimizers.MultiOptimizer,  # in `test_multi_optimizer`
    }
    assert kinds - known - wrappers == set()


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_identity_and_stock_weights(name, rate):
    """The weights are bitwise those of a run that nobody measures."""
    make = OPTIMIZERS[name]
    first = float(make().learning_rate)

    def new():
        return network(make(RATES[rate](first)))

    model = new()
    callback, theta = train(model)
    _, stock = train(new(), callback=False)
    np.testing.assert_array_equal(theta, stock)
    assert callback.record.steps == 40
    check_identity(model, callback, theta, 1e-5)
    assert type(model.optimizer) is type(make())


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", ["SGD momentum", "Adam", "RMSprop"])
def test_identity_of_settings(name, setting):
    def new():
        return network(OPTIMIZERS[name](**SETTINGS[setting]))

    model = new()
    callback, theta = train(model)
    _, stock = train(new(), callback=False)
    np.testing.assert_array_equal(theta, stock)
    accumulates = setting == "accumulation"
    assert callback.record.steps == (20 if accumulates else 40)
    if accumulates:
        theta = theta[::2]
    if setting == "ema":
        # Keras puts the average in place of the weights when training ends.
        theta = theta[:41]
    check_identity(model, callback, theta, 1e-5)


@pytest.mark.parametrize("name", ["SGD momentum", "SGD Nesterov", "AdamW", "Lion"])
def test_identity_in_float64(name):
    model = network(OPTIMIZERS[name](), dtype="float64")
    callback, theta = train(model)
    check_identity(model, callback, theta, 1e-12)


def test_constraint():
    constraint = keras.constraints.UnitNorm(axis=0)
    model = network(OPTIMIZERS["Adam"](), constraint=constraint)
    callback, theta = train(model)
    check_identity(model, callback, theta, 1e-5)


def test_eager_and_several_steps_a_call():
    sums = []
    for compiled in ({"run_eagerly": True}, {"steps_per_execution": 3}, {}):
        model = network(OPTIMIZERS["AdamW"](), **compiled)
        callback, _ = train(model)
        assert callback.record.steps == 40
        sums.append(callback.record.sums[:, :2].sum(axis=0))
    np.testing.assert_allclose(sums, [sums[0]] * 3, rtol=1e-4)


@pytest.mark.xla
@pytest.mark.parametrize("name", ["SGD momentum", "AdamW"])
def test_xla(name):
    model = network(OPTIMIZERS[name](), jit_compile=True)
    callback, theta = train(model)
    check_identity(model, callback, theta, 1e-5)


def test_mixed_float16():
    keras.config.set_dtype_policy("mixed_float16")
    model = network(OPTIMIZERS["Adam"](), dtype=None)
    callback, theta = train(model)
    inner = model.optimizer.inner_optimizer
    # Steps whose gradients overflow are none.
    assert 30 < callback.record.steps <= 40
    check_identity(model, callback, theta, 1e-5, inner)
    # The loss is recorded unscaled.
    assert 0.1 < callback.record.half_running_average("loss") < 10


def test_multi_optimizer():
    slow = keras.optimizers.SGD(0.01, momentum=0.9)
    fast = keras.optimizers.Adam(0.01)
    table = keras.optimizers.OptimizerMap(slow, {"second/.*": fast})
    model = network(keras.optimizers.MultiOptimizer(table))
    callback, theta = train(model)
    assert callback.record.steps == 40
    check_identity(model, callback, theta, 1e-5)
    with pytest.raises(ValueError, match="a MultiOptimizer of Adam, SGD"):
        model.fit(*data(), callbacks=[FDRCallback()], verbose=0)
    chosen = FDRCallback(optimizer=slow, factor=None)
    model.fit(*data(), callbacks=[chosen], verbose=0, batch_size=5)
    assert chosen.record.steps == 8
    assert chosen.record.learning_rate == pytest.approx(0.01)


@pytest.mark.parametrize("per_variable", [False, True])
@pytest.mark.parametrize("center", [None, "initial"])
def test_stock_momentum_gives_the_rows_of_fdrsgd(center, per_variable):
    options = {"center": center, "per_variable": per_variable}
    # Both numbers are the same in float32, to which Keras and we cast differently.
    rate, momentum = 2.0**-4, 1 - 2.0**-3
    stock = network(keras.optimizers.SGD(rate, momentum=momentum), dtype="float64")
    measure(stock, **options)
    observables = FDRObservables(dtype="float64", **options)
    optimizer = FDRSGD(rate, momentum=momentum, observables=observables)
    ours = network(optimizer, dtype="float64")
    a, theta = train(stock)
    b, theta_of_ours = train(ours)
    # Both round differently: Keras keeps η v, and FDRSGD keeps v.
    np.testing.assert_allclose(theta, theta_of_ours, rtol=1e-12, atol=1e-14)
    scale = np.abs(b.record.sums[:, 1]).max()
    for column in (0, 1):
        np.testing.assert_allclose(
            a.record.sums[:, column], b.record.sums[:, column], atol=1e-12 * scale
        )
    np.testing.assert_allclose(a.record.sums[:, 4], b.record.sums[:, 4], rtol=1e-12)
    if per_variable:
        theirs = ours.optimizer.observables.record_by_variable()
        mine = stock.optimizer.observables.record_by_variable()
        for one, two in zip(mine.values(), theirs.values(), strict=True):
            np.testing.assert_allclose(one.sums, two.sums, atol=1e-12 * scale)


def test_memory():
    assert memory_of(keras.optimizers.SGD()) == 0
    assert memory_of(keras.optimizers.SGD(momentum=0.8)) == 0.8
    assert memory_of(keras.optimizers.AdamW(beta_1=0.7)) == 0.7
    assert memory_of(keras.optimizers.RMSprop(momentum=0.6)) == 0.6
    assert memory_of(keras.optimizers.Adagrad()) == 0


def test_beta_is_free():
    model = network(OPTIMIZERS["Adam"](), dtype="float64")
    measured = measure(model, beta=0.5)
    callback, theta = train(model)
    assert measured.observables.beta == 0.5
    check_identity(model, callback, theta, 1e-12)


def test_options_cannot_change_later():
    model = network("adam")
    first = measure(model, capacity=16)
    assert measure(model).observables is first.observables
    with pytest.raises(ValueError, match="`capacity` is 16 .*Received: capacity=32"):
        measure(model, capacity=32)
    with pytest.raises(ValueError, match=r"FDRSGD\(observables=...\)"):
        measure(network(FDRSGD()), per_variable=True)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"beta": 1.0}, ValueError, r"`beta` must be .*Received: beta=1\.0"),
        ({"beta": "0.9"}, TypeError, "`beta` must be a finite number"),
        ({"center": "mean"}, ValueError, "`center` must be None or"),
        ({"capacity": 7}, ValueError, "`capacity` must be an even integer"),
        ({"per_variable": 1}, ValueError, "`per_variable` must be True or False"),
        ({"optimizer": "adam"}, TypeError, "`optimizer` must be a `keras.optimizers"),
    ],
)
def test_refused_options(arguments, error, message):
    with pytest.raises(error, match=message):
        measure(network("adam"), **arguments)


def test_refused_models():
    with pytest.raises(TypeError, match="`model` must be a `keras.Model`"):
        measure(keras.optimizers.Adam())
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="compiled with the optimizer to measure"):
        measure(model)


def test_no_second_trace():
    model = network("adam")
    callback = FDRCallback(factor=None)
    x, y = data()
    model.fit(x, y, batch_size=5, callbacks=[callback], verbose=0)
    function = model.train_function
    model.fit(x, y, batch_size=5, epochs=2, callbacks=[callback], verbose=0)
    assert model.train_function is function


def test_a_loop_of_ones_own():
    model = network(OPTIMIZERS["Adam"](), dtype="float64")
    measured = measure(model)
    x, y = data()
    theta = [Weights.flat(type("", (), {"model": model}))]
    for i in range(0, 40, 5):
        model.train_on_batch(x[i : i + 5], y[i : i + 5])
        theta.append(Weights.flat(type("", (), {"model": model})))
    record = measured.observables.record()
    assert record.steps == 8
    left, right = displacement_sums(np.array(theta), 0.9)
    rate = record.learning_rate
    np.testing.assert_allclose(record.sums[:, 0].sum() * rate, left, rtol=1e-10)
    np.testing.assert_allclose(record.sums[:, 1].sum() * rate, right, rtol=1e-10)


def test_cuts_and_columns():
    model = network(OPTIMIZERS["Adam"]())
    callback = FDRCallback(threshold=1e9, factor=0.5)
    x, y = data()
    history = model.fit(
        x, y, batch_size=5, epochs=3, callbacks=[callback], verbose=0
    ).history
    assert [cut.epoch for cut in callback.cuts] == [1, 2, 3]
    np.testing.assert_allclose(history["learning_rate"], [0.01, 0.005, 0.0025])
    assert "fdr_ratio" in history
    # What the noise adds to the loss is known of steps along the gradient only.
    assert "fdr_noise_loss" not in history
    momentum = network(OPTIMIZERS["SGD momentum"]())
    callback = FDRCallback(factor=None, full_batch=(x, y))
    history = momentum.fit(x, y, callbacks=[callback], verbose=0).history
    assert "fdr_noise_loss" in history
    assert "full_batch_gradient_norm" in history
    assert "full_batch_dissipation" not in history


def test_velocities_cannot_be_reset():
    callback = FDRCallback(reset_velocities_on_cut=True)
    with pytest.raises(ValueError, match="needs velocities .*Received: optimizer=Adam"):
        network("adam").fit(*data(), callbacks=[callback], verbose=0)


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "SGD momentum", "Adam"])
def test_rows_of_an_embedding(name):
    """Words come several times in a batch, and most words never come."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((3,), dtype="int32"),
        keras.layers.Embedding(50, 4),
        keras.layers.Flatten(),
        keras.layers.Dense(2),
    ]
    model = keras.Sequential(layers)
    model.compile(OPTIMIZERS[name](), "mse")
    words = np.random.default_rng(0).integers(0, 12, (40, 3)).astype("int32")
    weights, callback = Weights(), FDRCallback(factor=None)
    options = {"batch_size": 5, "shuffle": False, "verbose": 0}
    y = data()[1]
    for _ in range(2):
        model.fit(words, y, epochs=2, callbacks=[callback, weights], **options)
    assert callback.record.steps == 32
    check_identity(model, callback, np.array(weights.theta), 1e-5)


def test_a_step_does_not_read_the_whole_embedding():
    """Measuring SGD adds no tensor of its shape to those of the stock step."""
    words, y = np.zeros((4, 3), "int32"), np.zeros((4, 3, 4), "float32")
    counts = {}
    for name in ("stock", "SGD", "Adam"):
        embedding = keras.layers.Embedding(50, 4)
        model = keras.Sequential([keras.Input((3,), dtype="int32"), embedding])
        make = OPTIMIZERS["SGD" if name == "stock" else name]
        model.compile(make(), "mse", jit_compile=False)
        if name != "stock":
            measure(model)
        counts[name] = tensors_of_shape(model, words, y, (50, 4))
    assert counts["stock"] == counts["SGD"] < counts["Adam"]


@pytest.mark.parametrize("name", ["SGD", "Adam", "FDRSGD"])
def test_the_loss_of_accumulated_batches(name):
    """A step's loss is the mean over its batches, here with frozen weights."""
    make = FDRSGD if name == "FDRSGD" else OPTIMIZERS[name]
    model = network(make(0.0, gradient_accumulation_steps=4))
    x, y = data()
    losses = [model.test_on_batch(x[i : i + 5], y[i : i + 5]) for i in range(0, 40, 5)]
    callback = FDRCallback(factor=None)
    for epochs in (1, 2):  # The callback attaches once.
        model.fit(
            x, y, 5, epochs=epochs, shuffle=False, verbose=0, callbacks=[callback]
        )
    recorded = callback.record.sums[:, callback.record.names.index("loss")]
    expected = np.reshape(losses, (2, 4)).mean(axis=1)
    np.testing.assert_allclose(recorded, np.tile(expected, 3), rtol=1e-6)


def test_a_file_carries_the_loss_of_an_unfinished_step(tmp_path):
    """Four batches make a step. A file is written after three, or has no such sum."""
    path, x, y = tmp_path / "run.weights.h5", *data()

    def new():
        model = network(keras.optimizers.Adam(0.01, gradient_accumulation_steps=4))
        # Keras loads nothing into its own optimizers before they are built.
        model.optimizer.build(model.trainable_variables)
        return model, measure(model)

    model, measured = new()
    for i in range(3):
        model.train_on_batch(x[5 * i : 5 * i + 5], y[5 * i : 5 * i + 5])
    model.save_weights(path)
    resumed, record = new()
    resumed.load_weights(path)
    for each in (model, resumed):
        each.train_on_batch(x[15:20], y[15:20])
    rows = [m.observables.record().sums for m in (measured, record)]
    assert np.isfinite(rows[0][0, -1])
    np.testing.assert_array_equal(*rows)
    stock = network(keras.optimizers.Adam(0.01, gradient_accumulation_steps=4))
    stock.train_on_batch(x[:5], y[:5])
    stock.save_weights(path)
    resumed.load_weights(path)
    assert resumed.optimizer.accumulated_loss.total.numpy() == 0


def test_an_apply_without_gradients_is_no_step():
    model = network(OPTIMIZERS["Adam"]())
    measured = measure(model)
    measured.optimizer.build(model.trainable_variables)
    measured.optimizer.apply([])
    measured.optimizer.apply([], [])
    assert measured.observables.record().steps == 0
    assert int(measured.optimizer.iterations) == 0
