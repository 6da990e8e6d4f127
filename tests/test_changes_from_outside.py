"""A record restarts, with a warning, when more than its own steps changed the run."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_fdr import FDRSGD, FDRCallback, FDRObservables


def data():
    x = np.random.default_rng(0).normal(size=(24, 6)).astype("float32")
    return x, x[:, :3] + 0.1


def new_model(observables=None, loss="mse"):
    layers = [
        keras.Input((6,)),
        keras.layers.Dense(4, activation="tanh"),
        keras.layers.Dense(3),
    ]
    model = keras.Sequential(layers)
    optimizer = FDRSGD(0.05, momentum=0.9, l2=0.01, observables=observables)
    model.compile(optimizer, loss=loss)
    return model


def fit(model, epochs=1):
    callback = FDRCallback(factor=None)
    x, y = data()
    model.fit(x, y, batch_size=8, epochs=epochs, callbacks=[callback], verbose=0)
    return callback.record.steps


def rows_permuted(model):
    kernel, *rest = model.get_weights()
    model.set_weights([kernel[::-1].copy(), *rest])


def columns_negated(model):
    kernel, *rest = model.get_weights()
    model.set_weights([kernel * np.array([-1, -1, 1, 1], "float32"), *rest])


def two_weights_exchanged(model):
    kernel, bias, *rest = model.get_weights()
    kernel[0, 0], kernel[5, 3] = kernel[5, 3], kernel[0, 0]
    model.set_weights([kernel, bias, *rest])


def velocity_negated(model):
    velocity = model.optimizer.velocities[0]
    velocity.assign(-velocity.numpy())


@pytest.mark.parametrize(
    "change", [rows_permuted, columns_negated, two_weights_exchanged, velocity_negated]
)
def test_a_change_is_seen(change):
    model = new_model()
    fit(model, epochs=2)
    change(model)
    with pytest.warns(UserWarning, match="changed from outside"):
        assert fit(model) == 3


def test_no_change_is_no_warning():
    model = new_model()
    fit(model, epochs=2)
    assert fit(model) == 9
    x, y = data()
    model.train_on_batch(x[:8], y[:8])
    assert fit(model) == 13


def test_an_old_seal_raises_no_alarm():
    model = new_model()
    fit(model, epochs=2)
    # Files of older code hold another checksum, beside the number of steps.
    model.optimizer.observables.seal_of_weights.assign([12345, 6])
    assert fit(model) == 9


@pytest.mark.parametrize("loss", ["mae", keras.losses.Huber(), keras.losses.Huber(2.0)])
def test_another_loss_restarts_the_record(loss):
    model = new_model(loss=keras.losses.Huber(0.5))
    fit(model, epochs=2)
    model.compile(model.optimizer, loss=loss)
    with pytest.warns(UserWarning, match="another loss"):
        assert fit(model) == 3


def test_the_same_loss_again_is_no_change():
    model = new_model(loss=keras.losses.Huber(0.5))
    fit(model, epochs=2)
    model.compile(model.optimizer, loss=keras.losses.Huber(0.5), metrics=["mae"])
    assert fit(model) == 9


def test_one_observables_belongs_to_one_optimizer():
    observables = FDRObservables()
    fit(new_model(observables))
    with pytest.raises(ValueError, match="one of its own as `observables`. Received"):
        fit(new_model(observables))


def test_a_variable_of_tensorflow_is_refused():
    with pytest.raises(TypeError, match=r"`keras.Variable`. Received: .*Variable"):
        FDRSGD(0.1).apply_gradients([(tf.ones(2), tf.Variable([1.0, 2.0]))])


def test_nothing_trainable_is_evaluated():
    model = new_model()
    model.trainable = False
    model.compile(FDRSGD(0.05, l2=0.01), loss="mse")
    x, y = data()
    with pytest.warns(UserWarning, match="any trainable"):
        history = model.fit(x, y, verbose=0, callbacks=[FDRCallback()]).history
    assert np.isnan(history["fdr_ratio"][0])
    np.testing.assert_allclose(
        history["loss"][0], model.evaluate(x, y, verbose=0), rtol=1e-6
    )


def trained_with_two_types(optimizer, epochs, batch_size):
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((6,)),
        keras.layers.Dense(4),
        keras.layers.Dense(3, dtype="float64"),
    ]
    model = keras.Sequential(layers)
    model.compile(optimizer, loss="mse")
    before = model.get_weights()
    options = {"epochs": epochs, "batch_size": batch_size, "shuffle": False}
    model.fit(*data(), **options, verbose=0)
    return before, model.get_weights()


def test_weights_of_two_types_follow_stock_sgd():
    optimizer = FDRSGD(0.05, 0.9)
    _, ours = trained_with_two_types(optimizer, 2, 8)
    _, stock = trained_with_two_types(keras.optimizers.SGD(0.05, 0.9), 2, 8)
    for a, b in zip(ours, stock, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert optimizer.observables.record().steps == 6


def test_weights_of_two_types_with_l2():
    _, plain = trained_with_two_types(FDRSGD(0.05), 1, 24)
    optimizer = FDRSGD(0.05, l2=0.1)
    before, decayed = trained_with_two_types(optimizer, 1, 24)
    for start, a, b in zip(before, plain, decayed, strict=True):
        np.testing.assert_allclose(b, a - 0.05 * 0.1 * start, rtol=1e-5, atol=1e-6)
    # The row holds θ·∇f^B with the term λ|θ|².
    squares = sum((w.astype("float64") ** 2).sum() for w in before)
    gradient = [(s - b) / 0.05 for s, b in zip(before, decayed, strict=True)]
    wanted = sum((g * s).sum() for g, s in zip(gradient, before, strict=True))
    row = optimizer.observables.record().sums[0]
    np.testing.assert_allclose(row[0], wanted, rtol=1e-3)
    assert row[4] > 0.05 * squares


class InMidEpoch(keras.callbacks.Callback):
    """Changes something after the second batch of each epoch."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            self.change(self.model)


def weights_scaled(model):
    model.set_weights([1.01 * w for w in model.get_weights()])


def velocities_doubled(model):
    for velocity in model.optimizer.velocities:
        velocity.assign(2 * velocity.numpy())


@pytest.mark.parametrize("center", [None, "initial"])
@pytest.mark.parametrize("change", [weights_scaled, velocities_doubled])
def test_a_change_within_an_epoch_is_seen_by_the_identity(change, center):
    model = new_model(FDRObservables(center=center))
    callback = FDRCallback(factor=None)
    x, y = data()
    with pytest.warns(UserWarning, match="within the epoch"):
        model.fit(
            x,
            y,
            batch_size=4,
            epochs=2,
            callbacks=[callback, InMidEpoch(change)],
            verbose=0,
        )
    assert callback.record.steps == 0


def test_a_change_between_two_steps_of_a_loop_is_seen_when_fit_begins():
    model = new_model()
    x, y = data()
    fit(model)
    model.train_on_batch(x[:8], y[:8])
    weights_scaled(model)
    model.train_on_batch(x[:8], y[:8])
    with pytest.warns(UserWarning, match="changed from outside"):
        assert fit(model) == 3


@pytest.mark.parametrize("rate, momentum", [(0.2, 0.0), (0.05, 0.9), (1e-7, 0.9)])
def test_many_steps_raise_no_alarm(rate, momentum):
    # The bound has no chance in it. At the rate 1e-7 rounding swallows most steps.
    keras.utils.set_random_seed(1)
    model = new_model()
    model.compile(FDRSGD(rate, momentum=momentum, l2=0.01), loss="mse")
    x, y = data()
    data_set = tf.data.Dataset.from_tensor_slices((x, y)).repeat(200).batch(3)
    callback = FDRCallback(factor=None)
    model.fit(data_set, epochs=3, shuffle=False, callbacks=[callback], verbose=0)
    assert callback.record.steps == 4800
    assert model.optimizer.weights_unchanged()
