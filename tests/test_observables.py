"""FDRObservables: its rows, its record of fixed size, and the compiled step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_fdr import FDRSGD, FDRObservables
from keras_fdr.observables.sealing import seal, weights_unchanged


def eager_step(observables, theta, gradient, velocity, **scalars):
    scalars = {"learning_rate": tf.constant(0.1), "momentum": 0.5, **scalars}
    tensors = [[tf.constant(a) for a in x] for x in (theta, gradient, velocity)]
    return observables(*tensors, **{"dampening": 0.25, **scalars}).numpy()


def arrays_like_weights(rng, n=3):
    shapes = [(4, 3), (3,), ()]
    return [[rng.normal(size=s).astype("float32") for s in shapes] for _ in range(n)]


def flat(arrays):
    return np.concatenate([np.asarray(a, "float64").ravel() for a in arrays])


def numpy_row(theta, gradient, velocity, loss, eta=0.1, mu=0.5, nu=0.25):
    """Eqs. (10) and (17), and footnote 5."""
    theta, g, v = flat(theta), flat(gradient), flat(velocity)
    v_next = mu * v - (1 - nu) * g
    fluctuation = (1 + mu) / (2 * (1 - nu)) * eta * v_next @ v_next
    return np.array([theta @ g, fluctuation, v @ g, g @ g, loss])


def test_row_against_numpy(rng):
    theta, gradient, velocity = arrays_like_weights(rng)
    row = eager_step(FDRObservables(), theta, gradient, velocity, loss=tf.constant(0.7))
    expected = numpy_row(theta, gradient, velocity, 0.7)
    np.testing.assert_allclose(row, expected, rtol=1e-6)
    assert row.dtype == np.float64
    assert FDRObservables.names == (
        "dissipation",
        "fluctuation",
        "velocity_gradient",
        "gradient_norm_squared",
        "loss",
    )


def test_unknown_loss_is_nan(rng):
    row = eager_step(FDRObservables(), *arrays_like_weights(rng))
    assert np.isnan(row[4]) and np.isfinite(row[:4]).all()


def test_a_weight_without_gradient_is_left_out(rng):
    theta, gradient, velocity = arrays_like_weights(rng)
    parts = [[tf.constant(a) for a in x] for x in (theta, gradient, velocity)]
    parts[1][1] = None
    row = FDRObservables()(
        *parts, learning_rate=tf.constant(0.1), momentum=0.5, dampening=0.25
    )
    kept = [[x[0], x[2]] for x in (theta, gradient, velocity)]
    np.testing.assert_allclose(row[:4], numpy_row(*kept, 0)[:4], rtol=1e-6)


def test_center_is_where_the_record_began(rng):
    start, gradient, velocity = arrays_like_weights(rng)
    observables = FDRObservables(center="initial")
    for i in range(3):
        theta = [w + np.float32(i) for w in start]
        row = eager_step(observables, theta, gradient, velocity)
        assert row[0] == pytest.approx(i * flat(gradient).sum(), rel=1e-5, abs=1e-6)
    observables.reset()
    assert eager_step(observables, theta, gradient, velocity)[0] == 0


def feed(observables, steps, seed=0):
    """Feeds random rows; returns what the layer was given, in NumPy."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(steps, 6)).astype("float32")
    gradient = rng.normal(size=(steps, 6)).astype("float32")
    loss = rng.normal(size=steps).astype("float32")

    @tf.function
    def loop(start):
        for t in tf.range(start, steps):
            observables(
                [tf.constant(theta)[t]],
                [tf.constant(gradient)[t]],
                [],
                learning_rate=tf.constant(0.1),
                momentum=0.0,
                dampening=0.0,
                loss=tf.constant(loss)[t],
            )

    loop(0)
    theta, gradient = theta.astype("float64"), gradient.astype("float64")
    g_g = (gradient**2).sum(axis=1)
    eta = np.float64(np.float32(0.1))
    columns = [(theta * gradient).sum(axis=1), eta / 2 * g_g, 0 * g_g, g_g, loss]
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 16, 31, 32])
def test_half_running_average_is_exact_up_to_the_capacity(steps):
    observables = FDRObservables(capacity=32)
    rows = feed(observables, steps)
    record = observables.record()
    assert (record.steps, record.block_length) == (steps, 1)
    assert record.window_start == steps // 2
    for i, name in enumerate(record.names):
        expected = rows[steps // 2 :, i].mean()
        average = record.half_running_average(name)
        assert average == pytest.approx(expected, rel=1e-6, abs=1e-6)
        ends, averages = record.series(name)
        expected = [rows[t // 2 : t, i].mean() for t in range(1, steps + 1)]
        np.testing.assert_array_equal(ends, np.arange(1, steps + 1))
        np.testing.assert_allclose(averages, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("capacity", [2, 6, 8])
@pytest.mark.parametrize("capacities", [1.5, 2, 3.7, 11, 50])
def test_half_running_average_beyond_the_capacity(capacity, capacities):
    steps = int(capacity * capacities)
    observables = FDRObservables(capacity=capacity)
    rows = feed(observables, steps)
    record = observables.record()
    assert record.steps == steps
    assert len(record.sums) <= capacity
    # No row is lost or counted twice.
    np.testing.assert_allclose(record.sums.sum(axis=0), rows.sum(axis=0), rtol=1e-6)
    start = record.window_start
    assert abs(start - steps // 2) <= steps / capacity
    for i, name in enumerate(record.names):
        expected = rows[start:, i].mean()
        average = record.half_running_average(name)
        assert average == pytest.approx(expected, rel=1e-6, abs=1e-6)
        ends, averages = record.series(name)
        assert ends[-1] == steps
        assert averages[-1] == pytest.approx(average, rel=1e-9)
        for t, value in zip(ends, averages, strict=True):
            windows = [
                rows[t0:t, i].mean()
                for t0 in range(0, t, record.block_length)
                if abs(t0 - t // 2) <= steps / capacity
            ]
            assert np.abs(np.array(windows) - value).min() < 1e-6


def test_memory_does_not_grow():
    observables = FDRObservables(capacity=8)
    shapes = []
    for steps in (8, 1000):
        feed(observables, steps)
        shapes.append([v.shape for v in observables.variables])
    assert shapes[0] == shapes[1]


def test_another_learning_rate_begins_another_record(rng):
    weights = arrays_like_weights(rng)
    observables = FDRObservables()
    for eta in (0.1, 0.1, 0.2, 0.2, 0.2):
        eager_step(observables, *weights, learning_rate=tf.constant(eta))
    record = observables.record()
    assert record.steps == 3
    assert record.learning_rate == pytest.approx(0.2)
    assert observables.restart_count() == 1


def test_reset(rng):
    observables = FDRObservables()
    observables.reset()
    assert observables.record().steps == 0
    eager_step(observables, *arrays_like_weights(rng))
    observables.reset()
    assert observables.record().steps == 0
    eager_step(observables, *arrays_like_weights(rng))
    assert observables.record().steps == 1
    assert observables.restart_count() == 0


def test_seal(rng):
    observables = FDRObservables()
    weights = [keras.Variable(w) for w in arrays_like_weights(rng)[0]]
    observables.build([w.shape for w in weights])
    eager_step(observables, *arrays_like_weights(rng))

    def state():
        theta = [tf.convert_to_tensor(w) for w in weights]
        return observables.weights_state(theta, [], momentum=0.0, dampening=0.0)

    seal(observables, state())
    assert weights_unchanged(observables, state())
    before = weights[0].numpy()
    weights[0].assign(np.nextafter(before, np.inf))
    assert not weights_unchanged(observables, state())
    weights[0].assign(before)
    assert weights_unchanged(observables, state())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"capacity": 7}, "even integer, at least 2. Received: capacity=7"),
        ({"capacity": 0}, "Received: capacity=0"),
        ({"capacity": 8.0}, r"Received: capacity=8\.0"),
        ({"center": "mean"}, "None or \"initial\". Received: center='mean'"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FDRObservables(**arguments)


def compiled_model(optimizer, layer=None, **compile_arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    if layer:
        model = keras.Sequential([keras.Input((64,)), layer, *model.layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, **compile_arguments)
    return model


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_custom_loop_gets_the_rows_of_fit(digits, momentum):
    """A loop with its own update calls the layer, and records what `fit` records."""
    x, y = digits
    by_fit = compiled_model(FDRSGD(0.1, momentum))
    by_fit.fit(x, y, batch_size=20, epochs=2, shuffle=False, verbose=0)

    model = compiled_model("sgd")
    theta = model.trainable_variables
    velocity = [tf.Variable(tf.zeros(w.shape)) for w in theta]
    observables = FDRObservables()

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(y=labels, y_pred=model(images))
        gradient = tape.gradient(loss, theta)
        observables(
            [tf.convert_to_tensor(w.value) for w in theta],
            gradient,
            [tf.convert_to_tensor(v) for v in velocity] if momentum else [],
            learning_rate=tf.constant(0.1),
            momentum=momentum,
            dampening=0.0,
            loss=loss,
        )
        for w, v, g in zip(theta, velocity, gradient, strict=True):
            v.assign(momentum * v - g)
            w.assign_add(0.1 * v)

    for _ in range(2):
        for i in range(0, 200, 20):
            step(tf.constant(x[i : i + 20]), tf.constant(y[i : i + 20]))
    ours, theirs = by_fit.optimizer.observables.record(), observables.record()
    assert ours.steps == theirs.steps == 20
    np.testing.assert_allclose(ours.sums, theirs.sums, rtol=1e-5, atol=1e-7)


def test_the_loss_is_the_loss_of_each_batch(digits):
    """Recorded f^B against the loss of the same weights, evaluated before the step."""
    x, y = digits
    optimizer = FDRSGD(0.1, l2=0.01)
    model = compiled_model(optimizer)
    expected = []
    for i in range(0, 100, 20):
        batch = x[i : i + 20], y[i : i + 20]
        data_loss = model.evaluate(*batch, verbose=0)
        theta = flat(model.get_weights())
        expected.append(data_loss + 0.5 * 0.01 * theta @ theta)
        model.train_on_batch(*batch)
    _, losses = optimizer.observables.record().block_means("loss")
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "setting", [{"gradient_accumulation_steps": 5}, {"loss_scale_factor": 64.0}]
)
def test_the_loss_is_known_with(digits, setting):
    means = []
    for arguments in ({}, setting):
        optimizer = FDRSGD(1e-6, **arguments)
        model = compiled_model(optimizer)
        model.fit(*digits, batch_size=20, shuffle=False, verbose=0)
        record = optimizer.observables.record()
        means.append(record.sums[:, 4].sum() / record.steps)
    assert means[0] == pytest.approx(means[1], rel=1e-5)


class Counting(keras.layers.Layer):
    """Counts how often Python runs through the model: once a trace."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def call(self, inputs):
        self.calls += 1
        return inputs


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_traced_once(digits, steps_per_execution):
    """No retrace with a ragged last batch, in the second epoch, or after a cut."""
    counts = {}
    for optimizer in (FDRSGD(0.1, 0.9), keras.optimizers.SGD(0.1, 0.9)):
        layer = Counting()
        model = compiled_model(
            optimizer, layer, steps_per_execution=steps_per_execution
        )
        fit = {"batch_size": 30, "verbose": 0}
        model.fit(*digits, **fit)
        first = layer.calls
        model.fit(*digits, **fit)
        optimizer.learning_rate = 0.05
        if isinstance(optimizer, FDRSGD):
            optimizer.observables.reset()
        model.fit(*digits, **fit)
        assert layer.calls == first
        counts[type(optimizer)] = first
    # Stock Keras makes the slots inside the first trace, and so needs a second.
    assert counts[FDRSGD] == counts[keras.optimizers.SGD] - 1


def operations(graph):
    definition = graph.as_graph_def()
    nodes = list(definition.node)
    for function in definition.library.function:
        nodes.extend(function.node_def)
    return {node.op for node in nodes}


HOST_CALLS = ("PyFunc", "HostCompute", "SendToHost", "RecvFromHost", "Print")


@pytest.mark.parametrize("through_python", [False, True])
def test_the_compiled_step_never_leaves_the_device(digits, through_python):
    """No `py_function`, no host callback; a layer with one is found out."""
    layer = None
    if through_python:
        layer = keras.layers.Lambda(
            lambda x: tf.reshape(tf.numpy_function(np.abs, [x], "float32"), (-1, 64))
        )
    model = compiled_model(
        FDRSGD(0.1, 0.9, observables=FDRObservables(center="initial")), layer
    )
    x, y = digits
    step = tf.function(model.train_step).get_concrete_function((x[:20], y[:20]))
    used = operations(step.graph)
    assert "ResourceApplyMomentum" in used and "ResourceScatterAdd" in used
    assert any(call in op for op in used for call in HOST_CALLS) == through_python


def test_call_is_a_compiled_function():
    observables = FDRObservables()
    assert isinstance(observables.call, tf.types.experimental.PolymorphicFunction)
    feed(observables, 4)
    assert observables.call.experimental_get_tracing_count() == 1
