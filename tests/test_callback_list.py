"""FDRCallback checks the other callbacks and the arguments of `fit`."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.callbacks import BackupAndRestore, CSVLogger, ModelCheckpoint

from keras_fdr import FDRSGD, FDRCallback


def model_of(*layers):
    model = keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(1)])
    model.compile(FDRSGD(0.01, l2=0.1), loss="mse")
    return model


X, Y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")


def fit(callbacks, model=None, x=X, y=Y, **arguments):
    model = model or model_of()
    arguments = {"shuffle": False, "verbose": 0, "batch_size": 2, **arguments}
    return model.fit(x, y, callbacks=callbacks, **arguments)


def good(folder, **arguments):
    return BackupAndRestore(folder / "b", **{"double_checkpoint": True, **arguments})


def keeping(folder, name="m.keras", **arguments):
    return ModelCheckpoint(folder / name, **arguments)


def restarts(caught):
    """Of all warnings those about a restart."""
    messages = [str(warning.message) for warning in caught]
    return [message for message in messages if "cannot resume exactly" in message]


@pytest.mark.parametrize("make", [good, keeping])
def test_saving_before_the_cut_is_refused(tmp_path, make):
    model = model_of()
    before = model.get_weights()
    saver = make(tmp_path)
    with pytest.raises(ValueError, match="must be listed before") as error:
        fit([saver, FDRCallback()], model)
    received = f"Received: callbacks=[{type(saver).__name__}, FDRCallback]"
    assert received in str(error.value)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_logging_before_the_columns_is_warned_of(tmp_path):
    callbacks = [CSVLogger(tmp_path / "log.csv"), FDRCallback()]
    with pytest.warns(UserWarning, match="CSVLogger will not see the columns"):
        fit(callbacks)
    assert "fdr_ratio" not in (tmp_path / "log.csv").read_text()


def test_nothing_to_say(tmp_path):
    """The order of docs/resume.md, with data in a fixed order."""
    callbacks = [
        FDRCallback(),
        CSVLogger(tmp_path / "log.csv", append=True),
        keeping(tmp_path),
        good(tmp_path),
    ]
    fit(callbacks)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(2)
    fit([FDRCallback(), good(tmp_path)], x=data, y=None, batch_size=None)
    # Without a backup there is nothing to restart from.
    fit([FDRCallback(), CSVLogger(tmp_path / "log.csv")], shuffle=True)


NOTES = {
    "double_checkpoint=True": lambda f: [good(f, double_checkpoint=False)],
    r"BackupAndRestore\(save_freq": lambda f: [good(f, save_freq=2)],
    "lack the record": lambda f: [keeping(f, "m.h5")],
    "list CSVLogger before Backup": lambda f: [
        good(f),
        CSVLogger(f / "log", append=True),
    ],
    r"CSVLogger\(append=True\)": lambda f: [CSVLogger(f / "log"), good(f)],
}


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("note", NOTES)
def test_what_is_lost_by_other_callbacks(tmp_path, note):
    with pytest.warns(UserWarning, match=f"cannot resume exactly .*{note}") as caught:
        fit([FDRCallback(), *NOTES[note](tmp_path)], epochs=2)
    (message,) = restarts(caught)
    assert "(2)" not in message


def test_what_is_lost_by_the_data(tmp_path):
    repeated = tf.data.Dataset.from_tensor_slices((X, Y)).batch(2).repeat()
    for note, arguments in {
        r"fit\(shuffle=True\)": {"shuffle": True},
        "steps_per_epoch": {
            "x": repeated,
            "y": None,
            "batch_size": None,
            "steps_per_epoch": 3,
        },
        "dropout": {"model": model_of(keras.layers.Dropout(0.5))},
    }.items():
        with pytest.warns(
            UserWarning, match=f"cannot resume exactly .*{note}"
        ) as caught:
            fit([FDRCallback(), good(tmp_path)], **arguments)
        (message,) = restarts(caught)
        assert "(2)" not in message


def test_all_is_said_at_once_and_once(tmp_path):
    callbacks = [
        FDRCallback(),
        good(tmp_path, double_checkpoint=False, save_freq=2),
        CSVLogger(tmp_path / "log"),
    ]
    model = model_of(keras.layers.Dropout(0.5))
    with pytest.warns(UserWarning, match=r"\(1\).*\(5\).*\(6\)") as caught:
        fit(callbacks, model, shuffle=True)
        fit(callbacks, model, shuffle=True)
    assert len(restarts(caught)) == 1


def test_without_a_list_of_callbacks():
    """A custom loop may call the callback without a list."""
    model = model_of()
    callback = FDRCallback()
    callback.set_model(model)
    callback.set_params({"epochs": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        callback.on_train_begin()


def test_inside_another_callback(tmp_path):
    """The list does not hold the callback itself: nothing is claimed of its order."""

    class Around(keras.callbacks.Callback):
        inner = FDRCallback()

        def on_train_begin(self, logs=None):
            self.inner.set_model(self.model)
            self.inner.set_params(self.params)
            self.inner.on_train_begin(logs)

    fit([keeping(tmp_path), Around()])


class Reading(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.seen = dict(logs)


class NotReading(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        del logs
        self.epoch = epoch


def lambdas(**functions):
    return keras.callbacks.LambdaCallback(**functions)


@pytest.mark.parametrize(
    "make",
    [
        Reading,
        lambda: lambdas(on_epoch_end=lambda epoch, logs: sorted(logs)),
        lambda: lambdas(on_epoch_end=lambda *arguments: None),
        lambda: keras.callbacks.EarlyStopping("fdr_ratio", mode="min"),
    ],
)
@pytest.mark.filterwarnings("ignore:Early stopping conditioned")
def test_who_reads_the_logs_before_is_named(make):
    callback = make()
    name = type(callback).__name__
    with pytest.warns(UserWarning, match=f"{name} will not see the columns") as caught:
        fit([callback, FDRCallback()], epochs=2)
    ours = [w for w in caught if "will not see" in str(w.message)]
    assert len(ours) == 1


@pytest.mark.parametrize(
    "make",
    [
        NotReading,
        lambda: lambdas(on_epoch_begin=lambda epoch, logs: sorted(logs)),
        lambda: lambdas(on_epoch_end=lambda epoch, logs: None),
        lambda: keras.callbacks.EarlyStopping("loss"),
        lambda: keras.callbacks.ReduceLROnPlateau("loss", patience=9),
        keras.callbacks.TerminateOnNaN,
        keras.callbacks.History,
    ],
)
def test_who_does_not_read_the_logs_is_not_named(make):
    fit([make(), FDRCallback()])


def test_two_are_refused():
    model = model_of()
    before = model.get_weights()
    received = r"only one `FDRCallback`.*Received: callbacks=\[FDRCallback, FDRCallback"
    with pytest.raises(ValueError, match=received):
        fit([FDRCallback(), FDRCallback(factor=None)], model)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_saves_of_one_who_does_not_resume(tmp_path):
    fit([FDRCallback(), keeping(tmp_path, save_freq=1)], epochs=2)


def test_rate_that_tensorboard_logs(tmp_path):
    board = keras.callbacks.TensorBoard(tmp_path)
    # Nothing is wrong without a cut.
    fit([FDRCallback(factor=None, threshold=1e9), board], epochs=2)
    with pytest.warns(UserWarning, match="TensorBoard .*`fdr_learning_rate`") as caught:
        fit([FDRCallback(threshold=1e9), board], epochs=3)
    assert sum("`fdr_learning_rate`" in str(w.message) for w in caught) == 1


def test_orbax(tmp_path):
    pytest.importorskip("orbax.checkpoint")

    def saver():
        return keras.callbacks.OrbaxCheckpoint(
            str(tmp_path / "o"), save_on_background=False
        )

    with pytest.raises(ValueError, match=r"callbacks=\[OrbaxCheckpoint, FDRCallback"):
        fit([saver(), FDRCallback()])
    with pytest.warns(UserWarning, match="leaves out the record and the cuts"):
        fit([FDRCallback(), saver()])


def test_a_state_tree_is_said_to_have_no_record():
    model = model_of()
    fit([FDRCallback()], model)
    tree = model.get_state_tree()
    with pytest.warns(UserWarning, match="The record and the cuts .* are not in it"):
        model.set_state_tree(tree)
