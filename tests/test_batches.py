"""Batches in an order that is new in every epoch and follows from a seed."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from replica_runs import copies_differ, mirrored

from keras_fdr import (
    FDRSGD,
    FDRCallback,
    measure,
    prepare_distributed,
    shuffled_batches,
)

N = 37
X = np.arange(N, dtype="float32")[:, None]


def orders(dataset, epochs=1):
    """The examples in the order in which they come, one list an epoch."""
    return [
        [int(i) for x, *_ in dataset for i in x.numpy().ravel()] for _ in range(epochs)
    ]


def linear(strategy=None, **compiled):
    """A model that hardly moves, with the loss of each batch in its record."""
    with (strategy or tf.distribute.get_strategy()).scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(FDRSGD(1e-6, l2=0.1), "mse", **compiled)
    return model


class Seen(keras.layers.Layer):
    """Passes its input on and writes down the examples of each step."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def call(self, x):
        def write(rows):
            self.rows.extend(int(i) for i in rows.ravel())
            return rows

        return tf.ensure_shape(tf.numpy_function(write, [x], tf.float32), [None, 1])


def watched(steps_per_execution=1):
    seen = Seen()
    model = keras.Sequential([keras.Input((1,)), seen, keras.layers.Dense(1)])
    execution = {"jit_compile": False, "steps_per_execution": steps_per_execution}
    model.compile(FDRSGD(1e-6, l2=0.1), "mse", **execution)
    return model, seen


def fit(model, data, epochs=1, **arguments):
    options = {"shuffle": False, "verbose": 0, "callbacks": [FDRCallback(factor=None)]}
    return model.fit(data, epochs=epochs, **{**options, **arguments})


def test_reshuffled_batches_hold_every_example_once():
    dataset = shuffled_batches(X, X, 8, seed=0)
    sizes = [len(x) for x, _ in dataset]
    assert sizes == [8, 8, 8, 8, 5] and int(dataset.cardinality()) == 5
    epochs = orders(dataset, 4)
    assert all(sorted(order) == list(range(N)) for order in epochs)
    assert len({tuple(order) for order in epochs}) == 4


def test_orders_follow_from_the_seed_alone():
    tf.random.set_seed(1)
    first = orders(shuffled_batches(X, X, 8, seed=3), 3)
    tf.random.set_seed(2)
    np.random.seed(2)
    assert orders(shuffled_batches(X, X, 8, seed=3), 3) == first
    assert orders(shuffled_batches(X, X, 8, seed=4), 3) != first


@pytest.mark.statistics
def test_independent_batches_are_uniform():
    """χ² of how often each example comes: above the bound in 1 of 10⁶ such tests."""
    from scipy.stats import chi2

    dataset = shuffled_batches(X, X, 8, seed=0, draw="independent")
    assert int(dataset.cardinality()) == N // 8
    batches = [x.numpy().ravel() for _ in range(200) for x, _ in dataset]
    assert all(len(set(batch)) == len(batch) == 8 for batch in batches)
    counts = np.bincount(np.concatenate(batches).astype(int), minlength=N)
    expected = counts.sum() / N
    # Without replacement inside a batch the counts vary less than multinomial ones.
    shrunk = (N - 8) / (N - 1)
    assert ((counts - expected) ** 2 / expected).sum() < shrunk * chi2(N - 1).isf(1e-6)
    # Batches of one epoch overlap, as reshuffled ones cannot.
    first = [x.numpy().ravel() for x, _ in dataset]
    assert len(set(np.concatenate(first))) < sum(map(len, first))


def test_nested_data_and_weights():
    rows = np.arange(N, dtype="float32")
    x = {"a": rows, "b": (2 * rows, [3 * rows])}
    y = (rows.astype("int32"), -rows)
    dataset = shuffled_batches(x, y, 8, seed=0, sample_weight=rows / 10)
    for x_batch, y_batch, weights in dataset:
        a = x_batch["a"].numpy()
        np.testing.assert_array_equal(x_batch["b"][0], 2 * a)
        np.testing.assert_array_equal(x_batch["b"][1][0], 3 * a)
        np.testing.assert_array_equal(y_batch[0], a)
        np.testing.assert_array_equal(y_batch[1], -a)
        np.testing.assert_allclose(weights, a / 10, rtol=1e-6)
        assert y_batch[0].dtype == tf.int32


def test_several_outputs_and_weights_train():
    a = keras.Input((1,), name="a")
    outputs = {name: keras.layers.Dense(1, name=name)(a) for name in ("one", "two")}
    model = keras.Model({"a": a}, outputs)
    model.compile(FDRSGD(1e-3, l2=0.1), {"one": "mse", "two": "mae"})
    data = shuffled_batches({"a": X}, {"one": X, "two": -X}, 8, 0, np.ones(N))
    assert len(fit(model, data, 2).history["fdr_ratio"]) == 2


@pytest.mark.parametrize("steps", [1, 3])
def test_orders_in_fit_follow_from_the_steps_taken(steps):
    """Two processes' worth of `fit`: the second begins where the first would go on."""
    model, seen = watched(steps)
    fit(model, shuffled_batches(X, X, 8, seed=0), 4)
    whole = np.array(seen.rows).reshape(4, N)
    assert len({tuple(order) for order in whole}) == 4
    model, seen = watched()
    fit(model, shuffled_batches(X, X, 8, seed=0), 2)
    # A new dataset, as in a new process, and another use of the old one meanwhile.
    other = shuffled_batches(X, X, 8, seed=0)
    orders(other, 3)
    fit(model, other, 4, initial_epoch=2)
    np.testing.assert_array_equal(np.array(seen.rows).reshape(4, N), whole)


def test_calls_of_fit_go_on_with_new_orders():
    """Also of a dataset that was derived from it, and with fewer steps an epoch."""
    model, seen = watched()
    data = shuffled_batches(X, X, 8, seed=0).map(lambda x, y: (x, y))
    for _ in range(3):
        fit(model, data)
    fit(model, data.take(2), 3)
    fit(model, data.repeat(), 3, steps_per_epoch=2)
    whole, parts = seen.rows[: 3 * N], seen.rows[3 * N :]
    assert len({tuple(order) for order in np.array(whole).reshape(3, N)}) == 3
    taken = np.array(parts[: 6 * 8]).reshape(3, 16)
    assert len({tuple(order) for order in taken}) == 3
    rest = parts[6 * 8 :]
    assert len(rest) == 5 * 8 - 3 + 8 and sorted(rest[:N]) == list(range(N))


@pytest.mark.parametrize("prepared", [False, True])
def test_several_replicas_train_on_the_batches_of_one(prepared):
    def record(strategy):
        keras.utils.set_random_seed(0)
        model = linear(strategy)
        if strategy and prepared:
            prepare_distributed(model)
        fit(model, shuffled_batches(X, X, 8, seed=0), 3)
        if strategy:
            assert copies_differ(model) == []
        return model.optimizer.observables.record()

    one, two = record(None), record(mirrored(2))
    assert two.steps == 15
    np.testing.assert_allclose(two.sums, one.sums, rtol=1e-5)
    losses = one.sums[:, one.names.index("loss")].reshape(3, 5)
    assert not np.allclose(losses[0], losses[1], rtol=1e-2)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (
            {"batch_size": 0},
            ValueError,
            "at least 1. Received: batch_size=0",
        ),
        ({"batch_size": 2.5}, TypeError, "batch_size=2.5"),
        ({"seed": None}, TypeError, "`seed` must be an integer.*Received: seed=None"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"draw": "bootstrap"}, ValueError, "Received: draw='bootstrap'"),
        ({"y": None}, ValueError, "labels are None"),
        ({"y": X[:5]}, ValueError, "same number of examples.*Received"),
        ({"draw": "independent", "batch_size": 38}, ValueError, "at most 37"),
    ],
)
def test_refused_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        shuffled_batches(**{"x": X, "y": X, "batch_size": 8, "seed": 0, **arguments})


# ---- the warning of a seeded `fit` on arrays ----


def said(caught):
    return [w for w in caught if "same order in every epoch" in str(w.message)]


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_seeded_fit_on_arrays_is_warned_of_once(replicas):
    """The warning comes exactly where batches repeat, as the losses show."""
    model = linear(mirrored(2) if replicas == 2 else None)
    callback = FDRCallback(factor=None)
    options = {"batch_size": 8, "epochs": 3, "verbose": 0, "callbacks": [callback]}
    with pytest.warns(UserWarning, match="Pass `keras_fdr.shuffled_batches") as caught:
        model.fit(X, X, **options)
        model.fit(X, X, **options)
    (warning,) = said(caught)
    assert warning.filename == __file__
    losses = callback.record.sums[:15, 4].reshape(3, 5)
    np.testing.assert_allclose(losses, np.tile(losses[0], (3, 1)), rtol=0.03)


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 1},
        {"shuffle": False},
        {"batch_size": N},
        {"epochs": 2, "initial_epoch": 1},
        {"x": "dataset"},
    ],
)
@pytest.mark.filterwarnings("error")
def test_no_warning_where_nothing_repeats_by_itself(options):
    arguments = {"x": X, "y": X, "batch_size": 8, "epochs": 3, "verbose": 0, **options}
    if options.get("x") == "dataset":
        data = shuffled_batches(X, X, 8, seed=0)
        arguments |= {"x": data, "y": None, "batch_size": None, "shuffle": False}
    linear().fit(**arguments, callbacks=[FDRCallback(factor=None)])


def test_automatic_steps_per_execution_is_refused():
    """Keras' `fit` fails at it too, with an error of Python."""
    model = linear(steps_per_execution="auto")
    before = model.get_weights()
    message = "`steps_per_execution` must be an integer.*Received: .*'auto'"
    with pytest.raises(TypeError, match=message):
        fit(model, shuffled_batches(X, X, 8, seed=0))
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    with pytest.raises(TypeError, match=message):
        prepare_distributed(linear(mirrored(2), steps_per_execution="auto"))


@pytest.mark.parametrize("kind", ["fdrsgd", "adamw"])
def test_weights_loaded_before_the_first_step_resume_the_order(tmp_path, kind):
    """The number of earlier steps is known before the optimizer's first step."""

    def make():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        optimizer = {
            "fdrsgd": lambda: FDRSGD(0.05, 0.9, l2=0.01),
            "adamw": lambda: keras.optimizers.AdamW(0.01),
        }
        model.compile(optimizer[kind](), "mse")
        return model

    def train(model, epochs):
        x = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
        batches = shuffled_batches(x, x[:, :1], 8, seed=0)
        callbacks = [FDRCallback(factor=None)]
        model.fit(batches, epochs=epochs, verbose=0, shuffle=False, callbacks=callbacks)

    path = tmp_path / "m.weights.h5"
    first, second = make(), make()
    train(first, 2)
    first.save_weights(path)
    if kind == "adamw":  # Keras loads nothing into an optimizer that is not built.
        second.optimizer.build(second.trainable_variables)
        measure(second)
    second.load_weights(path)
    for model in (first, second):
        train(model, 1)
    for a, b in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    records = [measure(model).observables.record() for model in (first, second)]
    assert records[0].steps == records[1].steps == 9
    np.testing.assert_array_equal(*(record.sums for record in records))
