"""The protocol of a sweep: its rows and what it leaves behind.

Without statistics: the rows are compared with a NumPy twin that draws the same
mini-batches. What the numbers mean is in `test_sweep_statistics`.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sweep_cases import DATA, PROBLEM, START, least_squares, small_sweep
from sweep_twin import Twin, package_epochs

from keras_fdr import FDRSGD, landscape
from keras_fdr.landscape.sweeps import protocol

STAGES = [(0.1, 5), (0.05, 4), (0.1, 3)]
INITIAL = (0.2, 3)


@pytest.mark.parametrize("mode", ["independent", "paper"])
@pytest.mark.parametrize(
    ("mu", "nu", "jit"), [(0.0, 0.0, False), (0.9, 0.3, False), (0.9, 0.3, True)]
)
def test_rows_are_those_of_the_twin(mu, nu, jit, mode):
    """To 1e-4: float32 rounds θ by 6e-8 a step, forgotten in 10 or 100 steps, and
    ∇f is 1e-2 times the terms that make it up, so 1e-5 is the size of the error.

    With an odd number of epochs, a ragged end of the data, seeds out of order, a
    learning rate that comes twice.
    """
    seeds = [7, 0]
    found = landscape.sweep(
        least_squares(mu, nu, jit_compile=jit),
        DATA,
        STAGES,
        seeds=seeds,
        batch_size=4,
        initial=INITIAL,
        mode=mode,
        verbose=0,
    )
    assert [(r.seed, r.stage) for r in found.rows] == [
        (seed, stage) for seed in seeds for stage in range(3)
    ]
    independent = mode == "independent"

    def epochs(seeds, stage, count):
        return package_epochs(PROBLEM, 4, independent, seeds, stage, count)

    twin = Twin(PROBLEM, mu, nu, START[None])
    twin.stage(INITIAL[0], epochs([0], 0, INITIAL[1]), INITIAL[1])
    twin.theta = np.repeat(twin.theta, len(seeds), axis=0)
    for stage, (rate, count) in enumerate(STAGES):
        expected = twin.stage(rate, epochs(seeds, stage + 1, count), count)
        for chain, seed in enumerate(seeds):
            row = next(r for r in found.rows if (r.seed, r.stage) == (seed, stage))
            assert row.learning_rate == rate
            assert (row.steps, row.passes) == (5 * count, count - count // 2)
            values = {name: v[chain] for name, v in expected.items()}
            # Sums that cancel: to the size of their terms.
            norm = values["full_batch_gradient_norm_squared"]
            scale = {
                "dissipation": 1.0,
                "full_batch_velocity_gradient": norm,
                "full_batch_drift": values["full_batch_loss"] / rate / 5,
            }
            for name, value in values.items():
                tolerance = 1e-4 * max(abs(value), scale.get(name, 0.0))
                assert getattr(row, name) == pytest.approx(value, abs=tolerance), name


def test_settings_and_series_are_kept():
    found = small_sweep(least_squares(0.5, 0.2), stages=[(0.1, 30)], initial=(0.2, 1))
    expected = {
        "mode": "independent",
        "stages": [[0.1, 30]],
        "initial": [0.2, 1],
        "seeds": [0, 1],
        "batch_size": 4,
        "examples": 21,
        "momentum": 0.5,
        "dampening": 0.2,
        "l2": PROBLEM.l2,
    }
    assert expected.items() <= found.settings.items()
    for row in found.rows:
        series = row.series
        assert series["steps"][0] == 1 and series["steps"][-1] == row.steps == 150
        assert len(series["steps"]) <= 100 and np.all(np.diff(series["steps"]) > 0)
        for name in ("dissipation", "fluctuation"):
            assert series[name][-1] == pytest.approx(getattr(row, name), rel=1e-4)
            assert len(series[name]) == len(series["steps"])


def test_seeds_differ_in_their_batches_only():
    whole = small_sweep(least_squares(), batch_size=21, initial=INITIAL).rows
    for first, second in zip(whole[:2], whole[2:], strict=True):
        assert first.seed == 0 and second.seed == 1
        assert first.full_batch_loss == pytest.approx(second.full_batch_loss)
    part = small_sweep(least_squares(), initial=INITIAL).rows
    assert part[0].full_batch_loss != part[2].full_batch_loss
    alone = small_sweep(least_squares(), seeds=[1], initial=INITIAL).rows
    assert alone == part[2:]


@pytest.mark.parametrize(
    ("every", "epochs"), [(1, [4, 5, 6, 7]), (2, [5, 7]), (3, [4, 7])]
)
def test_passes_are_counted_back_from_the_last_epoch(monkeypatch, every, epochs):
    """In the newest half of 7 epochs; the path of the weights is the same."""
    model, ends = least_squares(), []
    measure = protocol.StageRunner._measure

    def noted(self, rng):
        ends.append(model.optimizer.observables.record().steps // 5)
        return measure(self, rng)

    monkeypatch.setattr(protocol.StageRunner, "_measure", noted)
    arguments = {"stages": [(0.1, 7)], "seeds": 1, "mode": "paper"}
    [row] = small_sweep(model, full_batch_every=every, **arguments).rows
    assert ends == epochs and row.passes == len(epochs)
    [other] = small_sweep(model, **arguments).rows
    assert row.dissipation == other.dissipation


def test_initial_run_happens_once(monkeypatch):
    calls = []
    stage = protocol.StageRunner.stage

    def counted(self, rate, epochs, *arguments):
        calls.append((rate, epochs))
        return stage(self, rate, epochs, *arguments)

    monkeypatch.setattr(protocol.StageRunner, "stage", counted)
    small_sweep(least_squares(), stages=[(0.1, 3)], seeds=3, initial=INITIAL)
    assert calls == [INITIAL, *[(0.1, 3)] * 3]


# What is left behind.


def used_network(rng):
    """A trained model with every kind of state, its data and all its variables."""
    x = rng.normal(size=(30, 4)).astype("float32")
    y = rng.integers(3, size=30)
    layers = [
        keras.layers.Dense(5, activation="tanh"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.3, seed=1),
        keras.layers.Dense(3, activation="softmax"),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(
        optimizer=FDRSGD(0.07, momentum=0.9),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model, (x, y)


def state(model):
    optimizer = model.optimizer
    variables = [
        *model.variables,
        *model.metrics_variables,
        *optimizer.variables,
        *optimizer.observables.variables,
        *optimizer.cut_table.variables,
    ]
    return [v.numpy() for v in variables]


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mode", ["independent", "paper"])
def test_model_is_left_as_it_was_and_the_same_call_finds_the_same(rng, mode):
    model, data = used_network(rng)
    model.fit(*data, batch_size=10, epochs=2, verbose=0)
    before = state(model)
    first = small_sweep(model, data, mode=mode, initial=(0.1, 1))
    assert_same(before, state(model))
    assert model.optimizer.observables.record().steps == 6
    assert float(model.optimizer.learning_rate) == np.float32(0.07)
    assert small_sweep(model, data, mode=mode, initial=(0.1, 1)) == first


def test_fit_goes_on_as_if_there_had_been_no_sweep(rng):
    """Also where the model had never been trained."""
    after = []
    for sweeps in (0, 1):
        keras.utils.set_random_seed(3)
        model, data = used_network(np.random.default_rng(1))
        for _ in range(sweeps):
            small_sweep(model, data)
        model.fit(*data, batch_size=10, epochs=2, shuffle=False, verbose=0)
        after.append(state(model))
    assert_same(*after)


def test_divergence_is_named_and_leaves_the_model_as_it_was():
    model = least_squares(0.9)
    model.fit(*DATA, verbose=0)
    before = state(model)
    with pytest.raises(FloatingPointError, match="smaller learning rate.*1000000000.0"):
        small_sweep(model, stages=[(1e9, 10)])
    assert_same(before, state(model))


# Data.


def test_dataset_finds_what_arrays_find():
    model = least_squares(0.9, 0.3)
    arrays = tuple(a.astype("float32") for a in DATA)
    dataset = tf.data.Dataset.from_tensor_slices(arrays).batch(8)
    pairs = zip(small_sweep(model, dataset).rows, small_sweep(model).rows, strict=True)
    for one, other in pairs:
        one, other = one.to_dict(), other.to_dict()
        assert one.pop("series") == other.pop("series")
        # The full batch is summed in other parts.
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)


def test_sample_weights_count():
    """Twice the loss at half the learning rate: the same path, f and ∇f doubled."""
    model = least_squares(l2=0.0)
    doubled = small_sweep(model, (*DATA, np.full(21, 2.0)), stages=[(0.05, 4)])
    for one, two in zip(
        small_sweep(model, stages=[(0.1, 4)]).rows, doubled.rows, strict=True
    ):
        for name, power in (
            ("full_batch_loss", 1),
            ("dissipation", 1),
            ("full_batch_dissipation", 2),
            ("gradient_norm_squared", 2),
            ("noise_curvature", 3),
            ("velocity_curvature", 3),
        ):
            wanted = 2**power * getattr(one, name)
            assert getattr(two, name) == pytest.approx(wanted, rel=1e-4), name


def test_mixed_precision():
    """Also the state of the `LossScaleOptimizer` is put back."""
    keras.config.set_dtype_policy("mixed_float16")
    model = least_squares()
    data = tuple(a.astype("float32") for a in DATA)
    model.fit(*data, verbose=0)
    before = [v.numpy() for v in model.optimizer.variables]
    found = small_sweep(model, data)
    assert_same(before, [v.numpy() for v in model.optimizer.variables])
    assert np.isfinite([row.full_batch_dissipation for row in found.rows]).all()
