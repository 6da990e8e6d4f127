"""Files of a measured optimizer: stock for Keras, whole for this package."""

import subprocess
import sys
import textwrap
from dataclasses import astuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from measure_cases import OPTIMIZERS, data, network

from keras_fdr import FDRCallback, measure

pytestmark = pytest.mark.filterwarnings("ignore:The loss has no L2 term")
OPTIONS = {"center": "initial", "per_variable": True, "capacity": 16}


def new(name="Adam"):
    return network(OPTIMIZERS[name]())


def fit(model, callback=None, epochs=1):
    callback = callback or FDRCallback(factor=None)
    x, y = data()
    model.fit(
        x,
        y,
        batch_size=5,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[callback],
    )
    return callback


def trained(name="Adam"):
    """A model with a cut, and with steps after it."""
    model = new(name)
    measure(model, **OPTIONS)
    fit(model, FDRCallback(threshold=1e9, factor=0.5))
    fit(model, epochs=3)
    return model


def state(model):
    optimizer = model.optimizer
    observables = optimizer.observables
    record = observables.record()
    by_variable = observables.record_by_variable()
    return {
        "weights": np.concatenate([w.ravel() for w in model.get_weights()]),
        "sums": record.sums,
        "steps": record.steps,
        "rate": record.learning_rate,
        "memory": observables.memory.numpy(),
        "cuts": np.array([astuple(cut) for cut in optimizer.cut_table.read()]),
        # `tf.train.Checkpoint` does not carry the names.
        "by variable": np.array([r.sums for r in by_variable.values()]),
    }


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def weights_file(model, path):
    model.save_weights(path / "model.weights.h5")
    return lambda other: other.load_weights(path / "model.weights.h5")


def checkpoint(model, path):
    saved = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    prefix = saved.save(str(path / "checkpoint"))

    def load(other):
        fresh = tf.train.Checkpoint(model=other, optimizer=other.optimizer)
        fresh.restore(prefix).assert_existing_objects_matched()

    return load


@pytest.mark.parametrize("name", ["SGD momentum", "Adam"])
@pytest.mark.parametrize("save", [weights_file, checkpoint])
def test_a_file_carries_record_and_cuts_bitwise(save, name, tmp_path):
    model, other = trained(name), new(name)
    load = save(model, tmp_path)
    measure(other, **OPTIONS)
    other.optimizer.build(other.trainable_variables)
    other.train_on_batch(*data())
    load(other)
    assert_same(state(other), state(model))
    fit(model)
    fit(other)
    assert_same(state(other), state(model))
    assert len(state(other)["cuts"]) == 1


def test_the_optimizer_that_is_saved_is_that_of_keras(tmp_path):
    model = trained()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is keras.optimizers.Adam
    for a, b in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    # Measured first, the same file also gives the record.
    measure(loaded, **OPTIONS)
    assert loaded.optimizer.observables.record().steps == 0
    loaded.load_weights(tmp_path / "model.keras")
    assert_same(state(loaded), state(model))


def test_a_stock_file_means_that_nothing_was_measured(tmp_path):
    stock = new()
    x, y = data()
    stock.fit(x, y, verbose=0)
    stock.save_weights(tmp_path / "stock.weights.h5")
    model = trained()
    model.load_weights(tmp_path / "stock.weights.h5")
    assert model.optimizer.observables.record().steps == 0
    assert model.optimizer.cut_table.read() == []
    assert fit(model).record.steps == 8
    fit(stock)
    for a, b in zip(model.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_file_of_another_beta_is_refused(tmp_path):
    trained().save_weights(tmp_path / "model.weights.h5")
    other = new()
    measure(other, beta=0.5, **OPTIONS)
    other.optimizer.build(other.trainable_variables)
    with pytest.raises(ValueError, match=r"beta=0\.9 instead of 0\.5"):
        other.load_weights(tmp_path / "model.weights.h5")


@pytest.mark.process
def test_the_files_load_where_this_package_is_not(tmp_path):
    model = trained()
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    program = """
        import sys
        sys.modules["keras_fdr"] = None
        import keras, numpy as np
        model = keras.models.load_model("model.keras")
        model.load_weights("model.weights.h5")
        assert type(model.optimizer) is keras.optimizers.Adam
        model.fit(np.ones((8, 4)), np.ones((8, 2)), verbose=0)
        print(int(model.optimizer.iterations))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == str(int(model.optimizer.iterations) + 1)


def test_backup_and_restore_goes_on_bitwise(tmp_path):
    x, y = data()

    def run(model, epochs, folder):
        backup = keras.callbacks.BackupAndRestore(
            tmp_path / folder, double_checkpoint=True, delete_checkpoint=False
        )
        fdr = FDRCallback(threshold=0.9, factor=0.5)
        model.fit(
            x,
            y,
            batch_size=5,
            epochs=epochs,
            shuffle=False,
            verbose=0,
            callbacks=[fdr, backup],
        )
        return model

    whole = run(new("SGD momentum"), 6, "whole")
    run(new("SGD momentum"), 3, "parts")
    resumed = run(new("SGD momentum"), 6, "parts")
    left, right = (m.optimizer.observables.record() for m in (whole, resumed))
    np.testing.assert_array_equal(left.sums, right.sums)
    assert whole.optimizer.cut_table.read() == resumed.optimizer.cut_table.read()
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
