"""FDR1 of every weight tensor by itself: its rows, its record, its picture."""

from itertools import product

import keras
import numpy as np
import pytest
import tensorflow as tf
from identity import Snapshot, arrays, residual, rounding_bound, zeros

from keras_fdr import FDRSGD, FDRObservables, Record, ThresholdRule, plots

layers = keras.layers
MOMENTA = [(0.0, 0.0), (0.9, 0.0), (0.5, 0.3)]
GRAPH = {"jit_compile": False}
XLA = {"jit_compile": True, "steps_per_execution": 4}
EXECUTIONS = [GRAPH, pytest.param(XLA, marks=pytest.mark.xla)]


def dense():
    inputs = keras.Input((64,))
    hidden = layers.Dense(16, activation="relu", name="hidden")(inputs)
    return keras.Model(inputs, layers.Dense(10, name="output")(hidden))


def train(optimizer, digits, model=None, epochs=3, **compile_arguments):
    """Batches of 30, a ragged last one; returns the model and (θ, v) at both ends."""
    keras.utils.set_random_seed(0)
    model = model() if model else dense()
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **compile_arguments,
    )
    theta = arrays(model.trainable_variables)
    end = Snapshot()
    model.fit(
        *digits, batch_size=30, epochs=epochs, verbose=0, shuffle=False, callbacks=[end]
    )
    return model, (theta, zeros(theta)), (end.theta, end.velocity)


def by_itself(**arguments):
    return FDRObservables(per_variable=True, **arguments)


def check_sum(observables):
    """The rows of all tensors sum to the total row."""
    total, records = observables.record(), observables.record_by_variable()
    for record in records.values():
        assert record.names == ("dissipation", "fluctuation")
        assert record.steps == total.steps
        assert record.block_length == total.block_length
        assert record.learning_rate == total.learning_rate
    each = np.stack([record.sums for record in records.values()])
    scale = np.abs(each).sum(axis=0).max(axis=0)
    error = np.abs(each.sum(axis=0) - total.sums[:, :2]).max(axis=0)
    assert (error <= 1e-13 * scale).all()
    return records


def check_identity(optimizer, before, after, limit=2e-4):
    """Σ(O_L − O_R) = −[Q_i(T) − Q_i(0)] for every tensor, within its rounding bound.

    Where clipping makes O_R of one tensor small, its share of rounding is larger than
    that of the whole: `limit` keeps the bound sharp.
    """
    records = list(optimizer.observables.record_by_variable().values())
    centered = optimizer.observables.center == "initial"
    for i, record in enumerate(records):
        first, last = (([theta[i]], [v[i]]) for theta, v in (before, after))
        center = first[0] if centered else zeros(first[0])
        bound = rounding_bound(record, last, optimizer, center)
        assert bound < limit
        assert residual(record, first, last, optimizer, center) < bound


def test_rows_against_numpy(rng):
    """Eqs. (10) and (17) for each tensor; 0 in a step without gradient."""
    eta, mu, nu = 0.1, 0.5, 0.25
    shapes = [(4, 3), (3,), ()]
    observables = by_itself()
    expected = []
    for missing in (None, 1):
        theta, g, v = ([rng.normal(size=s).astype("f") for s in shapes] for _ in "tgv")
        gradient = [None if i == missing else tf.constant(x) for i, x in enumerate(g)]
        observables(
            [tf.constant(x) for x in theta],
            gradient,
            [tf.constant(x) for x in v],
            learning_rate=tf.constant(eta, "float64"),
            momentum=mu,
            dampening=nu,
        )
        for i in range(3):
            v_next = mu * v[i] - (1 - nu) * g[i]
            right = (1 + mu) / (2 * (1 - nu)) * eta * (v_next**2).sum()
            row = [(theta[i] * g[i]).sum(), right]
            expected.append([0, 0] if i == missing else row)
    records = check_sum(observables)
    assert list(records) == ["weight_0", "weight_1", "weight_2"]
    expected = np.reshape(expected, (2, 3, 2))
    for i, record in enumerate(records.values()):
        np.testing.assert_allclose(record.sums, expected[:, i], rtol=1e-5)


SETTINGS = [{}, {"l2": 0.01}, {"clipnorm": 0.2}, {"global_clipnorm": 0.3, "l2": 0.01}]
# All of them as a graph; under XLA, where compiling takes seconds, all momenta once.
CASES = [
    *product(SETTINGS, MOMENTA, [GRAPH]),
    *(
        pytest.param(SETTINGS[-1], momenta, XLA, marks=pytest.mark.xla)
        for momenta in MOMENTA
    ),
]


@pytest.mark.parametrize(
    "setting, momenta, execution",
    CASES,
    ids=lambda value: "+".join(value) if isinstance(value, dict) else str(value),
)
def test_identity(digits, setting, momenta, execution):
    optimizer = FDRSGD(
        0.2, *momenta, observables=by_itself(center="initial"), **setting
    )
    _, before, after = train(optimizer, digits, **execution)
    check_identity(optimizer, before, after)
    records = check_sum(optimizer.observables)
    assert list(records) == [
        "hidden/kernel",
        "hidden/bias",
        "output/kernel",
        "output/bias",
    ]


def test_a_wrong_tensor_is_caught(digits):
    """The check fails if the rows of two tensors are exchanged, or off by a bit."""
    optimizer = FDRSGD(0.2, 0.9, observables=by_itself())
    _, before, after = train(optimizer, digits)
    check_identity(optimizer, before, after)
    swapped = [[parts[j] for j in (1, 0, 2, 3)] for parts in after]
    with pytest.raises((AssertionError, ValueError)):
        check_identity(optimizer, before, swapped)
    scaled = [[1.001 * w for w in parts] for parts in after]
    with pytest.raises(AssertionError):
        check_identity(optimizer, before, scaled)


def embedding():
    """Sparse gradients with repeated indices."""
    inputs = keras.Input((64,))
    words = layers.Lambda(lambda x: keras.ops.cast(16 * x, "int32"))(inputs)
    vectors = layers.Embedding(17, 3)(words)
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(vectors)))


def test_sparse_gradients_and_accumulation(digits):
    optimizer = FDRSGD(0.2, 0.9, observables=by_itself(), gradient_accumulation_steps=3)
    _, before, after = train(optimizer, digits, model=embedding)
    assert len(check_sum(optimizer.observables)) == 3
    check_identity(optimizer, before, after)


@pytest.mark.parametrize("execution", EXECUTIONS, ids=["graph", "xla"])
@pytest.mark.parametrize("mu, nu", [(0.0, 0.0), (0.5, 0.3)])
def test_training_and_total_are_bitwise_the_same(digits, mu, nu, execution):
    results = []
    for flag in (False, True):
        observables = FDRObservables(capacity=8, per_variable=flag)
        optimizer = FDRSGD(0.2, mu, nu, l2=0.01, observables=observables)
        model, *_ = train(optimizer, digits, **execution)
        record = observables.record()
        results.append([*model.get_weights(), record.sums, record.steps])
    for without, with_it in zip(*results, strict=True):
        np.testing.assert_array_equal(without, with_it)


def test_scale_invariant_layer():
    """Before a normalisation θ·∇(data loss) = 0: O_L is λ|θ|², nothing else is."""
    keras.config.set_dtype_policy("float64")
    keras.config.set_floatx("float64")
    try:
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(60, 8)), rng.integers(0, 3, 60)
        model = keras.Sequential(
            [
                keras.Input((8,)),
                layers.Dense(5, use_bias=False, name="invariant"),
                layers.BatchNormalization(epsilon=0.0),
                layers.Activation("tanh"),
                layers.Dense(3, name="output"),
            ]
        )
        optimizer = FDRSGD(0.1, 0.9, l2=0.01, observables=by_itself())
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss=loss)
        pull = []
        for i in range(0, 60, 20):
            pull.append(
                [0.01 * (w**2).sum() for w in arrays(model.trainable_variables)]
            )
            model.train_on_batch(x[i : i + 20], y[i : i + 20])
    finally:
        keras.config.set_floatx("float32")
    names = [v.path for v in model.trainable_variables]
    records = check_sum(optimizer.observables)
    for name, expected in zip(names, np.transpose(pull), strict=True):
        _, dissipation = records[name].block_means("dissipation")
        if name == "invariant/kernel":
            np.testing.assert_allclose(dissipation, expected, rtol=1e-12)
        elif name == "output/kernel":
            assert (np.abs(dissipation / expected - 1) > 1e-3).all()


def test_merging_loses_nothing(digits):
    sums = []
    for capacity in (4, 1024):
        optimizer = FDRSGD(0.2, 0.9, observables=by_itself(capacity=capacity))
        train(optimizer, digits, epochs=10)
        records = check_sum(optimizer.observables)
        assert {r.block_length for r in records.values()} == {
            32 if capacity == 4 else 1
        }
        sums.append([record.sums.sum(axis=0) for record in records.values()])
    np.testing.assert_allclose(*sums, rtol=1e-12)


def test_restart_and_reset(digits):
    optimizer = FDRSGD(0.2, 0.9, observables=by_itself())
    model, *_ = train(optimizer, digits)
    optimizer.learning_rate = 0.1
    before = arrays(model.trainable_variables), arrays(optimizer.velocities)
    model.fit(*digits, batch_size=50, verbose=0)
    after = arrays(model.trainable_variables), arrays(optimizer.velocities)
    assert optimizer.observables.restart_count() == 1
    records = check_sum(optimizer.observables)
    assert {record.steps for record in records.values()} == {4}
    check_identity(optimizer, before, after)
    optimizer.observables.reset()
    assert optimizer.observables.record_by_variable() == {}
    model.fit(*digits, batch_size=100, verbose=0)
    assert check_sum(optimizer.observables)["hidden/kernel"].steps == 2


@pytest.mark.parametrize("kind", ["model.keras", "m.weights.h5", "checkpoint"])
def test_checkpoints_carry_the_record(digits, tmp_path, kind):
    """Restored in the middle, a run goes on bitwise as if never interrupted."""
    path = tmp_path / kind
    model, *_ = train(FDRSGD(0.2, 0.9, observables=by_itself(capacity=4)), digits)
    if kind == "model.keras":
        model.save(path)
        copy = keras.saving.load_model(path)
    else:
        optimizer = FDRSGD(0.2, 0.9, observables=by_itself(capacity=4))
        copy, *_ = train(optimizer, digits, epochs=1)
        if kind == "checkpoint":
            tracked = [
                tf.train.Checkpoint(model=m, optimizer=m.optimizer)
                for m in (model, copy)
            ]
            restored = tracked[1].read(tracked[0].write(str(path)))
            restored.assert_consumed()
        else:
            model.save_weights(path)
            copy.load_weights(path)
    for epochs in (0, 2):
        read = []
        for m in (model, copy):
            if epochs:
                m.fit(*digits, batch_size=30, epochs=2, shuffle=False, verbose=0)
            read.append(check_sum(m.optimizer.observables))
        # Names come with the optimizer's `build`, in a loaded model too.
        assert list(read[0]) == list(read[1]) and "hidden/bias" in read[0]
        for ours, theirs in zip(*(r.values() for r in read), strict=True):
            np.testing.assert_array_equal(ours.sums, theirs.sums)


@pytest.mark.parametrize("kind", ["m.weights.h5", "checkpoint"])
def test_a_checkpoint_without_the_record_is_refused(digits, tmp_path, kind):
    model, *_ = train(FDRSGD(0.2), digits, epochs=1)
    other, *_ = train(FDRSGD(0.2, observables=by_itself()), digits, epochs=1)
    if kind == "checkpoint":
        tracked = [tf.train.Checkpoint(optimizer=m.optimizer) for m in (model, other)]
        with pytest.raises(AssertionError, match="by_variable"):
            status = tracked[1].read(tracked[0].write(str(tmp_path / kind)))
            status.assert_existing_objects_matched()
    else:
        model.save_weights(tmp_path / kind)
        with pytest.raises(ValueError, match="by_variable"):
            other.load_weights(tmp_path / kind)


class Unused(layers.Layer):
    """Owns a weight that the loss does not depend on."""

    def build(self, input_shape):
        self.idle = self.add_weight(shape=(3,), initializer="ones", name="idle")

    def call(self, inputs):
        return inputs


def without_gradient():
    inputs = keras.Input((64,))
    hidden = layers.Dense(16, name="frozen", trainable=False)(inputs)
    return keras.Model(inputs, layers.Dense(10, name="output")(Unused()(hidden)))


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("execution", EXECUTIONS, ids=["graph", "xla"])
def test_weights_without_gradient_are_left_out(digits, execution):
    optimizer = FDRSGD(0.2, 0.9, observables=by_itself())
    model, *_ = train(optimizer, digits, model=without_gradient, **execution)
    assert len(model.trainable_variables) == 3
    records = check_sum(optimizer.observables)
    assert list(records) == ["output/kernel", "output/bias"]


def test_a_weight_without_gradient_in_some_steps(digits):
    """Nothing of it is measured there, and it does not move: the identity holds."""
    model = dense()
    weights = model.trainable_variables
    optimizer = FDRSGD(0.2, 0.9, observables=by_itself())
    optimizer.build(weights)
    before = arrays(weights), zeros(arrays(weights))
    x, y = (tf.constant(a[:30]) for a in digits)
    for step in range(6):
        with tf.GradientTape() as tape:
            losses = keras.losses.sparse_categorical_crossentropy(y, model(x), True)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, [w.value for w in weights])
        kept = [i for i in range(4) if i != 1 or step % 2]
        optimizer.apply([gradients[i] for i in kept], [weights[i] for i in kept])
    assert len(check_sum(optimizer.observables)) == 4
    bias = optimizer.observables.record_by_variable()["hidden/bias"]
    assert (bias.sums[::2] == 0).all() and (bias.sums[1::2, 1] > 0).all()
    after = arrays(weights), arrays(optimizer.velocities)
    check_identity(optimizer, before, after)


def test_everything_of_a_record_works_on_each(digits, tmp_path):
    optimizer = FDRSGD(0.2, 0.9, l2=0.01, observables=by_itself())
    train(optimizer, digits, epochs=5)
    for record in optimizer.observables.record_by_variable().values():
        sums = record.sums[record.window_start :].sum(axis=0)
        assert record.ratio == pytest.approx(sums[0] / sums[1], rel=1e-12)
        assert record.series("fluctuation")[1].shape == (35,)
        assert ThresholdRule(0.01)(record).ratio == pytest.approx(record.ratio)
        assert len(plots.equilibration(record)[1]) == 1
        record.save(tmp_path / "record")
        loaded = Record.load(tmp_path / "record")
        assert loaded.names == record.names and loaded.ratio == record.ratio


def test_names():
    observables = by_itself()
    observables.name_weights(["a", "b", "a"])
    with pytest.raises(ValueError, match="Received: 3 names for 2 tensors"):
        observables.build([(), ()])
    ones = [tf.ones(())] * 3
    observables = by_itself()
    observables.name_weights(["a", "b", "a"])
    scalars = {"learning_rate": tf.constant(0.1), "momentum": 0.0, "dampening": 0.0}
    observables(ones, ones, [], **scalars)
    assert list(observables.record_by_variable()) == ["a#0", "b", "a#2"]
    with pytest.raises(ValueError, match="Received: 1 names for 3 tensors"):
        observables.name_weights(["a"])


def test_config_and_refusals():
    assert FDRObservables().get_config()["per_variable"] is False
    copy = FDRObservables.from_config(by_itself().get_config())
    assert copy.per_variable is True
    assert copy.record_by_variable() == {}
    optimizer = FDRSGD.from_config(FDRSGD(observables=by_itself()).get_config())
    assert optimizer.observables.per_variable is True
    with pytest.raises(ValueError, match="True or False. Received: per_variable=2"):
        FDRObservables(per_variable=2)
    with pytest.raises(ValueError, match=r"FDRObservables\(per_variable=True\)"):
        FDRObservables().record_by_variable()


def test_plot_shows_the_ratios(digits, tmp_path):
    optimizer = FDRSGD(0.2, 0.9, l2=0.01, observables=by_itself(capacity=16))
    model, *_ = train(optimizer, digits, epochs=9)
    records = optimizer.observables.record_by_variable()
    path = tmp_path / "layers.png"
    for source in (records, optimizer.observables, optimizer, model):
        _, axis = plots.layers(source, path, title="by layer")
        assert path.read_bytes().startswith(b"\x89PNG")
        drawn = axis.collections[0].get_array()
        for row, record in zip(drawn, records.values(), strict=True):
            left = record.series("dissipation")[1]
            right = record.series("fluctuation")[1]
            for cell, a, b in zip(row, left, right, strict=True):
                assert cell == pytest.approx(np.log10(np.clip(a / b, 0.1, 10)))
        # The first weight on top; each block's end inside its cell.
        assert axis.get_ylim()[0] > axis.get_ylim()[1]
        edges = axis.collections[0].get_coordinates()[0, :, 0]
        ends = record.series("dissipation")[0]
        assert (edges[:-1] < ends).all() and (ends < edges[1:]).all() and edges[0] > 0
        assert axis.get_xscale() == "log"
        labels = [label.get_text() for label in axis.get_yticklabels()]
        assert labels == list(records)


def test_plot_colours():
    """Red above 1, blue below, white at 1, grey where there is no ratio."""
    names = ("dissipation", "fluctuation")
    columns = [[200.0, 1.0], [1.0, 1.0], [0.001, 1.0], [-1.0, 1.0], [0.0, 0.0]]
    rows = {
        str(i): Record([row], steps=1, names=names) for i, row in enumerate(columns)
    }
    rows["5"] = Record([[np.nan, 1.0]], steps=1, names=names)
    mesh = plots.layers(rows)[1].collections[0]
    assert mesh.get_clim() == (-1, 1)
    drawn = mesh.get_array().ravel()
    assert drawn.mask.tolist() == [False] * 4 + [True] * 2
    assert drawn[:4].tolist() == [1, 0, -1, -1]
    colours = mesh.to_rgba(drawn)[:, :3]
    assert colours[0][0] > colours[0][2] and colours[2][2] > colours[2][0]
    assert (colours[1] > 0.95).all()
    np.testing.assert_allclose(colours[4:], 0.6, atol=0.01)


def test_plot_refusals():
    with pytest.raises(ValueError, match=r"FDRObservables\(per_variable=True\)"):
        plots.layers(FDRSGD(0.1))
    with pytest.raises(TypeError, match=r"`source` must be .*Received: source=3"):
        plots.layers(3)
    with pytest.raises(TypeError, match=r"a model or optimizer that is measured"):
        plots.layers(keras.optimizers.SGD(0.1))
    with pytest.raises(TypeError, match="per_variable=True"):
        plots.layers({"a": [1.0]})
    with pytest.raises(ValueError, match="must have recorded a step"):
        plots.layers(by_itself())
    with pytest.raises(ValueError, match="must have recorded a step"):
        plots.layers({"a": Record.empty()})
    records = {str(n): Record(np.ones((n, 5)), steps=n) for n in (2, 3)}
    with pytest.raises(ValueError, match=r"the same steps.*steps=\[2, 3\]"):
        plots.layers(records)
