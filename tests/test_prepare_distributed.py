"""`prepare_distributed` and `on_chief` in one process."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_fdr
from keras_fdr import FDRSGD, FDRCallback, on_chief
from keras_fdr.distribution import trainer
from keras_fdr.restart import chief


@pytest.fixture
def two_devices():
    return tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


@pytest.fixture
def data(rng):
    x = rng.normal(size=(83, 4)).astype("float32")
    return x, x.sum(axis=1, keepdims=True) + rng.normal(size=(83, 1)).astype("float32")


def make_model(strategy, make=keras.Sequential, optimizer=None, **compiled):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        x = keras.Input((4,))
        y = keras.layers.Dense(1)(keras.layers.Dense(3, activation="tanh")(x))
        model = keras.Model(x, y) if make is keras.Sequential else make(x, y)
        model.compile(
            optimizer or FDRSGD(0.01, momentum=0.9, l2=0.01),
            loss="mse",
            metrics=["mae"],
            **compiled,
        )
    return model


def run(model, data):
    """`fit` with an odd first batch, odd validation batches and an odd end."""
    x, y = data
    batches = []
    spy = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: batches.append(logs["loss"])
    )
    history = model.fit(
        x,
        y,
        batch_size=25,
        epochs=3,
        shuffle=False,
        verbose=0,
        validation_data=(x[:41], y[:41]),
        callbacks=[FDRCallback(factor=None), spy],
    )

    def on_batch(method):
        # Keras 3.14 continues the averages of `evaluate` here. In these a batch counts
        # several times if each replica gets all of it.
        model.reset_metrics()
        return method(x[:7], y[:7])

    return {
        **history.history,
        "last_batch": batches[-1],
        "evaluate": model.evaluate(x, y, batch_size=33, verbose=0),
        "train_on_batch": on_batch(model.train_on_batch),
        "test_on_batch": on_batch(model.test_on_batch),
        "predict": model.predict(x[:41], verbose=0),
        **{f"weight_{i}": w for i, w in enumerate(model.get_weights())},
    }


def test_functions_are_made_once(two_devices, data):
    """A second `fit` or `evaluate` neither makes nor traces the function again.

    `compile` and `force=True` do ask for new ones, as in Keras.
    """
    x, y = data[0][:24], data[1][:24]
    model = keras_fdr.prepare_distributed(make_model(two_devices))
    traces = []
    step = model.train_step
    model.train_step = lambda batch: traces.append(1) or step(batch)

    def use():
        model.fit(x, y, batch_size=8, verbose=0, callbacks=[FDRCallback(factor=None)])
        model.evaluate(x, y, batch_size=8, verbose=0)
        return model.train_function, model.test_function

    first = use()
    count = len(traces)
    assert count > 0
    assert use() == first and len(traces) == count
    assert model.make_train_function() is first[0]
    assert model.make_test_function() is first[1]
    assert model.make_train_function(force=True) is not first[0]
    assert model.make_test_function(force=True) is not first[1]
    assert model.train_function is not first[0]
    assert model.test_function is not first[1]


@pytest.mark.parametrize("steps", [1, 3])
def test_equals_one_device(two_devices, data, steps):
    expected = run(make_model(tf.distribute.get_strategy()), data)
    model = make_model(two_devices, steps_per_execution=steps)
    assert keras_fdr.prepare_distributed(model) is model
    found = run(model, data)
    assert len(found) == len(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, 1e-5, 1e-6, err_msg=name)


def test_stock_keras_still_fails(two_devices, data):
    """Else the call has lost a reason to exist."""
    model = make_model(two_devices, optimizer=keras.optimizers.SGD())
    with pytest.raises(tf.errors.InvalidArgumentError, match="same size"):
        model.fit(*data, batch_size=25, verbose=0)


def test_again_and_after_compile(two_devices, data):
    model = make_model(two_devices)
    for _ in range(2):
        keras_fdr.prepare_distributed(model)
    model.compile(FDRSGD(0.01, l2=0.01), loss="mae", metrics=["mse"])
    history = model.fit(*data, batch_size=25, verbose=0, callbacks=[FDRCallback()])
    assert {"loss", "mse"} < set(history.history)


def test_changes_nothing_on_one_device():
    model = make_model(tf.distribute.get_strategy())
    before = set(vars(model))
    assert keras_fdr.prepare_distributed(model) is model
    assert set(vars(model)) == before


def test_several_steps_unprepared(two_devices, data):
    """Refused by name, before any weight changes."""
    model = make_model(two_devices, steps_per_execution=3)
    before = model.get_weights()
    with pytest.raises(ValueError, match="prepare_distributed.*steps_per_execution=3"):
        model.fit(*data, batch_size=24, verbose=0, callbacks=[FDRCallback()])
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


class Doubling(keras.Model):
    """A model that overrides its step and returns something that is not a metric."""

    def test_step(self, data):
        return {"shares": tf.cast(tf.shape(data[0])[0], tf.float32)}


def test_own_step(two_devices, data):
    model = keras_fdr.prepare_distributed(make_model(two_devices, make=Doubling))
    found = model.evaluate(*data, batch_size=83, verbose=0, return_dict=True)
    assert found == {"shares": 41.5}
    model = make_model(two_devices, make=Doubling, steps_per_execution=2)
    keras_fdr.prepare_distributed(model)
    with pytest.raises(ValueError, match="steps_per_execution=2, Doubling.test_step"):
        model.evaluate(*data, verbose=0)


def test_arguments():
    with pytest.raises(TypeError, match="Received: str"):
        keras_fdr.prepare_distributed("model")
    with pytest.raises(ValueError, match="compiled with an optimizer"):
        keras_fdr.prepare_distributed(keras.Sequential([keras.Input((4,))]))


def gone(self, iterator=None, data_batch=None):
    raise AssertionError


@pytest.mark.parametrize(
    ("name", "method", "reason"),
    [
        ("_maybe_symbolic_build", None, "no such method"),
        ("_maybe_symbolic_build", lambda self, data: None, "parameters are"),
        ("_symbolic_build", lambda self, iterator: None, "parameters are"),
        ("fit", gone, "does not use"),
        ("make_train_function", lambda self, force=False: None, "does not use"),
    ],
)
def test_another_keras(two_devices, monkeypatch, name, method, reason):
    """If Keras has changed a replaced method, an error names the version and place."""
    model = make_model(two_devices)
    monkeypatch.setattr(keras.Model, name, method)
    message = rf"Keras {keras.version()}, in which for `keras.Model.{name}` .*{reason}"
    with pytest.raises(RuntimeError, match=message):
        keras_fdr.prepare_distributed(model)
    assert "make_train_function" not in vars(model)


def test_seeds(two_devices, monkeypatch):
    """Workers that would shuffle in different orders are refused."""
    monkeypatch.setattr(trainer, "has_several_workers", lambda strategy: True)
    model = make_model(two_devices)
    keras_fdr.prepare_distributed(model)
    tf.random.set_seed(None)
    with pytest.raises(ValueError, match="no seed on this worker$"):
        keras_fdr.prepare_distributed(model)
    keras.utils.set_random_seed(1)
    monkeypatch.setattr(trainer, "sum_over_replicas", lambda strategy, own: 3)
    with pytest.raises(ValueError, match="seed 1 on this worker, another on others"):
        keras_fdr.prepare_distributed(model)


def test_on_chief_of_one_worker(two_devices):
    model = make_model(two_devices)
    callback = keras.callbacks.CSVLogger("log.csv")
    assert on_chief(model, callback) is callback
    with pytest.raises(TypeError, match="Received: str"):
        on_chief(model, "backup")


def test_backup_that_not_all_see(two_devices, data, tmp_path, monkeypatch):
    """As if this worker had restored nothing and the other had."""
    monkeypatch.setattr(chief, "has_several_workers", lambda strategy: True)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": ["a:1", "b:1"]}), task_type="worker", task_id=1
    )
    monkeypatch.setattr(type(two_devices), "cluster_resolver", resolver)
    monkeypatch.setattr(chief, "sum_over_replicas", lambda strategy, own: own + 5)
    model = keras_fdr.prepare_distributed(make_model(two_devices))
    backup = keras.callbacks.BackupAndRestore(tmp_path, double_checkpoint=True)
    callbacks = [FDRCallback(), on_chief(model, backup)]
    with pytest.raises(ValueError, match="0 steps on this worker, 2.5 on average"):
        model.fit(*data, shuffle=False, verbose=0, callbacks=callbacks)
    assert type(on_chief(model, keras.callbacks.CSVLogger("log.csv"))) is (
        keras.callbacks.Callback
    )


def test_backup_on_chief_before_the_callback(two_devices, data, tmp_path):
    """`FDRCallback` sees what `on_chief` holds: this order would save without a cut."""
    model = keras_fdr.prepare_distributed(make_model(two_devices))
    backup = chief._Backup(
        keras.callbacks.BackupAndRestore(tmp_path, double_checkpoint=True),
        is_chief=True,
    )
    with pytest.raises(ValueError, match="must be listed before"):
        model.fit(*data, verbose=0, callbacks=[backup, FDRCallback()])
