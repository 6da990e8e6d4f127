"""Records over learning rates that change: the exact identity at any schedule."""

import keras
import numpy as np
import pytest

from keras_fdr import FDRSGD, FDRCallback, FDRObservables, Record

schedules = keras.optimizers.schedules
STEPS = 40


class Replay(keras.callbacks.Callback):
    """Keeps the weights before and after each step, and the rate of each step."""

    def __init__(self, rate=None):
        super().__init__()
        self.rate = rate
        self.theta, self.rates = [], []

    def _flat(self):
        weights = [w.numpy().ravel() for w in self.model.trainable_weights]
        return np.concatenate(weights).astype("float64")

    def on_train_batch_begin(self, batch, logs=None):
        optimizer = self.model.optimizer
        if self.rate is not None:
            optimizer.learning_rate = self.rate(len(self.rates))
        if not self.theta:
            self.theta.append(self._flat())
        self.rates.append(float(optimizer.learning_rate))

    def on_train_batch_end(self, batch, logs=None):
        self.theta.append(self._flat())


def trained(learning_rate, replay, epochs=5, dtype="float64", **arguments):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(STEPS, 4)), rng.normal(size=(STEPS, 2))
    layers = [
        keras.Input((4,), dtype=dtype),
        keras.layers.Dense(3, activation="tanh", dtype=dtype),
        keras.layers.Dense(2, dtype=dtype),
    ]
    model = keras.Sequential(layers)
    observables = arguments.pop("observables", None) or FDRObservables(dtype=dtype)
    optimizer = FDRSGD(learning_rate, observables=observables, **arguments)
    model.compile(optimizer, loss="mse")
    callback = FDRCallback(factor=None)
    model.fit(
        x, y, batch_size=5, epochs=epochs, verbose=0, callbacks=[callback, replay]
    )
    return model, callback


def rows_of_displacements(theta, rates, momentum, dampening, center=0.0):
    """FDR1's rows from the weights alone, in NumPy, in the units of the first rate."""
    theta = np.array(theta) - center
    steps = np.diff(theta, axis=0)
    a = np.sum(theta[:-1] * steps, axis=1)
    b = np.sum(steps**2, axis=1)
    before = np.concatenate([[0.0], a[:-1] + b[:-1]])
    unit = rates[np.flatnonzero(rates)[0]] * (1 - dampening)
    return (momentum * before - a) / unit, (1 + momentum) / 2 * b / unit


RATES = {
    "cosine": schedules.CosineDecay(0.1, STEPS),
    "warm-up from 0": schedules.CosineDecay(
        0.0, STEPS, warmup_target=0.1, warmup_steps=7
    ),
    "exponential": schedules.ExponentialDecay(0.1, 3, 0.9),
    "constant": 0.1,
}


@pytest.mark.parametrize("momentum, dampening", [(0.0, 0.0), (0.9, 0.0), (0.9, 0.5)])
@pytest.mark.parametrize("name", RATES)
def test_rows_are_those_of_the_displacements(name, momentum, dampening):
    replay = Replay()
    _, callback = trained(
        RATES[name], replay, momentum=momentum, dampening=dampening, l2=0.01
    )
    left, right = rows_of_displacements(replay.theta, replay.rates, momentum, dampening)
    # Steps at the rate 0 are left out: nothing moves.
    first = np.flatnonzero(replay.rates)[0]
    record = callback.record
    assert record.steps == STEPS - first
    scale = np.abs(right).max()
    # At the rate 0 a velocity grows that moves nothing. A record that begins then
    # takes it for η v, as at a constant rate.
    own = slice(1 if first and momentum else 0, None)
    np.testing.assert_allclose(
        record.sums[own, 0], left[first:][own], atol=1e-7 * scale
    )
    np.testing.assert_allclose(record.sums[:, 1], right[first:], atol=1e-7 * scale)
    rates = np.array(replay.rates[first:])
    np.testing.assert_allclose(record.block_means("learning_rate")[1], rates, atol=1e-7)
    window = slice(record.window_start, None)
    np.testing.assert_allclose(
        record.half_running_average("dissipation"),
        left[first:][window].sum() / (rates[window] / rates[0]).sum(),
        rtol=1e-5,
    )


@pytest.mark.parametrize("center", [None, "initial"])
def test_identity_under_a_cosine_with_a_center(center):
    replay = Replay()
    model, callback = trained(
        RATES["cosine"],
        replay,
        momentum=0.9,
        l2=0.01,
        observables=FDRObservables(center=center, dtype="float64", per_variable=True),
    )
    theta_c = replay.theta[0] if center else 0.0
    theta = np.array(replay.theta) - theta_c
    end, before = theta[-1], theta[-2]
    q = (1 - 0.9) / 2 * end @ end + 0.9 * end @ (end - before)
    start = 0.05 * theta[0] @ theta[0]
    left, right = callback.record.sums[:, :2].sum(axis=0)
    assert left - right == pytest.approx(-(q - start) / 0.1, rel=1e-5)
    by_variable = model.optimizer.observables.record_by_variable()
    total = sum(record.sums for record in by_variable.values())
    np.testing.assert_allclose(total, callback.record.sums[:, :2], rtol=1e-9)
    for record in by_variable.values():
        np.testing.assert_array_equal(
            record.learning_rates, callback.record.learning_rates
        )


def test_rates_assigned_before_each_step_are_averaged():
    replay = Replay(rate=lambda step: 0.1 * (1 - step / STEPS))
    _, callback = trained(0.1, replay, momentum=0.9, l2=0.01)
    left, right = rows_of_displacements(replay.theta, replay.rates, 0.9, 0.0)
    record = callback.record
    assert record.steps == STEPS
    np.testing.assert_allclose(record.sums[:, 0], left, atol=1e-7)
    np.testing.assert_allclose(record.sums[:, 1], right, atol=1e-7)


@pytest.mark.parametrize("by_hand", [True, False])
def test_a_single_change_begins_a_record(by_hand):
    def rate(step):
        return 0.1 if step < 30 else 0.05

    replay = Replay(rate=rate) if by_hand else Replay()
    stairs = schedules.PiecewiseConstantDecay([29], [0.1, 0.05])
    learning_rate = 0.1 if by_hand else stairs
    _, callback = trained(learning_rate, replay, momentum=0.9, l2=0.01)
    assert callback.record.steps == STEPS - 30
    assert callback.record.learning_rate == pytest.approx(0.05)
    assert callback.record.learning_rates is None


def test_a_decay_after_a_constant_rate_begins_one_record():
    def rate(step):
        return 0.1 * min(1.0, (STEPS - step) / 15)

    _, callback = trained(0.1, Replay(rate=rate), momentum=0.9, l2=0.01)
    assert callback.record.steps == 14
    assert len(set(callback.record.learning_rates)) == 14


def test_merged_blocks_hold_the_same_sums():
    small = FDRObservables(capacity=8, dtype="float64")
    replay = Replay()
    _, callback = trained(
        RATES["cosine"], replay, momentum=0.9, l2=0.01, observables=small
    )
    left, right = rows_of_displacements(replay.theta, replay.rates, 0.9, 0.0)
    record = callback.record
    assert record.block_length == 8
    np.testing.assert_allclose(record.sums[:, 0], left.reshape(-1, 8).sum(1), atol=1e-7)
    np.testing.assert_allclose(
        record.sums[:, 1], right.reshape(-1, 8).sum(1), atol=1e-7
    )
    means = np.reshape(replay.rates, (-1, 8)).mean(axis=1)
    np.testing.assert_allclose(record.learning_rates, means, atol=1e-7)


def test_a_record_at_changing_rates_is_saved_whole(tmp_path):
    rows = np.arange(20.0).reshape(4, 5)
    record = Record(rows, steps=4, learning_rate=0.1, learning_rates=[0.1, 0.2, 0.3, 0])
    record.save(tmp_path / "record.npz")
    loaded = Record.load(tmp_path / "record.npz")
    np.testing.assert_array_equal(loaded.learning_rates, record.learning_rates)
    # Steps 3 and 4: (10 + 15)/(3 + 0), and the plain mean where no rate belongs.
    assert loaded.half_running_average("dissipation") == pytest.approx(25 / 3)
    assert loaded.half_running_average("loss") == (14 + 19) / 2
    assert loaded.half_running_average("learning_rate") == pytest.approx(0.15)


def test_the_verdict_says_that_weights_follow_the_schedule():
    _, callback = trained(RATES["cosine"], Replay(), momentum=0.9, l2=0.01)
    assert "follow the schedule" in callback.verdict.reason
    _, callback = trained(RATES["constant"], Replay(), momentum=0.9, l2=0.01)
    assert "schedule" not in callback.verdict.reason
