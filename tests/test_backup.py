"""Every state in which a kill can leave the folder of a backup."""

import itertools
import json
import shutil
import sys
import warnings
from collections import Counter

import keras
import numpy as np
import pytest
from checkpoint_cases import assert_same_state, state
from keras.callbacks import BackupAndRestore, CallbackList

from keras_fdr import FDRSGD, FDRCallback, FDRObservables, Verdict

X = np.linspace(-1, 1, 12, dtype="float32").reshape(6, 2)
Y = X.sum(axis=1, keepdims=True) ** 2
EPOCHS = 3
WEIGHTS, METADATA = "latest.weights.h5", "training_metadata.json"
# Modules that change files.
FILES = ("backup", "shutil", "file_utils", "pathlib")


def fresh_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    optimizer = FDRSGD(0.1, 0.9, l2=0.1, observables=FDRObservables(8))
    model.compile(optimizer, loss="mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


class States(keras.callbacks.Callback):
    """The state at the beginning and after each epoch."""

    def on_train_begin(self, logs=None):
        self.after = {0: state(self.model)}

    def on_epoch_end(self, epoch, logs=None):
        self.after[epoch + 1] = state(self.model)


class Photographs:
    """Copies a folder whenever a line of Python finds it changed: what a kill leaves.

    Args:
        folder: Where the files are.
        album: Where the copies go.
        modules: In whose lines to look.
    """

    def __init__(self, folder, album, modules):
        self.folder, self.album, self.taken = folder, album, []
        self._modules = modules
        self._seen, self._grown = self._look(), 0

    def _look(self):
        files = self.folder.glob("*")
        return {f.name: (s.st_size, s.st_mtime_ns) for f in files for s in [f.stat()]}

    def _trace(self, frame, event, arg):
        try:
            now = self._look()
        except FileNotFoundError:
            return self._trace
        if now != self._seen and self.folder.is_dir():
            # Of a file of weights that grows every fourth state is enough.
            growing = {n for n in now if now[n] != self._seen.get(n)} == {WEIGHTS}
            self._grown = self._grown + 1 if growing else 0
            if self._grown % 4 == 0:
                copy = self.album / str(len(self.taken))
                shutil.copytree(self.folder, copy)
                self.taken.append(copy)
        self._seen = now
        return self._trace

    def __enter__(self):
        self._before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def _call(self, frame, event, arg):
        name = frame.f_code.co_filename
        return self._trace if any(part in name for part in self._modules) else None

    def __exit__(self, *error):
        sys.settrace(self._before)


def backup_in(folder, **arguments):
    return BackupAndRestore(folder, **{"double_checkpoint": True, **arguments})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Every state of the folder in a whole run, and the model after each epoch."""
    folder, album = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("album")
    states = States()
    callbacks = [FDRCallback(factor=None), states, backup_in(folder / "backup")]
    modules = (*FILES, "saving_lib", "h5py")
    with Photographs(folder / "backup", album, modules) as photographs:
        fresh_model().fit(
            X,
            Y,
            batch_size=2,
            epochs=EPOCHS,
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
        )
    return photographs.taken, states.after


def restart(folder, epochs=EPOCHS, **arguments):
    """What Keras begins with, as `fit` would: a model and the first epoch."""
    model = fresh_model()
    callbacks = [FDRCallback(factor=None), backup_in(folder, **arguments)]
    CallbackList(callbacks, model=model, epochs=epochs).on_train_begin()
    return model, model._initial_epoch or 0


@pytest.fixture
def no_warnings_of_a_new_start():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The run was killed when its backup")
        yield


def names(folder):
    return sorted(f.name for f in folder.iterdir())


@pytest.mark.usefixtures("no_warnings_of_a_new_start")
def test_every_state_of_the_folder(run, tmp_path):
    """Weights and epoch agree, and no more than one epoch is lost."""
    folders, after = run
    assert len(folders) > 8 * EPOCHS
    begun = []
    for i, folder in enumerate(folders):
        copy = tmp_path / str(i)
        shutil.copytree(folder, copy)
        model, epoch = restart(copy)
        assert_same_state(state(model), after[epoch])
        begun.append(epoch)
    # Until the folder is being deleted it never goes back.
    newest = begun.index(EPOCHS)
    assert begun[: newest + 1] == sorted(begun[: newest + 1])
    assert set(begun) == set(range(EPOCHS + 1))


@pytest.mark.usefixtures("no_warnings_of_a_new_start")
def test_killed_again_while_the_backup_is_repaired(run, tmp_path):
    folders, after = run
    twice = 0
    # The last epoch's, where each kind of state occurs, and the deletion.
    for i, folder in enumerate(folders[-12:]):
        copy, album = tmp_path / f"copy{i}", tmp_path / f"album{i}"
        shutil.copytree(folder, copy)
        with Photographs(copy, album, FILES) as photographs:
            restart(copy)
        for torn in photographs.taken:
            model, epoch = restart(torn)
            assert_same_state(state(model), after[epoch])
            twice += 1
    assert twice > 12


def test_stock_keras_goes_wrong(run, tmp_path):
    """Why there is something to repair: the same states without `FDRCallback`."""
    folders, after = run
    wrong = 0
    for i, folder in enumerate(folders):
        copy = tmp_path / str(i)
        shutil.copytree(folder, copy)
        model = fresh_model()
        try:
            CallbackList([backup_in(copy)], model=model).on_train_begin()
            assert_same_state(state(model), after[model._initial_epoch or 0])
        except (AssertionError, OSError, ValueError):
            wrong += 1
    assert wrong > EPOCHS


def state_after(run, *present):
    """A folder of the run that holds these files and no others."""
    return next(f for f in run[0] if names(f) == sorted(present))


def last_whole_folder(run, tmp_path):
    whole = [f for f in run[0] if len(names(f)) == 4][-1]
    copy = tmp_path / "backup"
    shutil.copytree(whole, copy)
    return copy


@pytest.mark.usefixtures("no_warnings_of_a_new_start")
def test_files_are_deleted_in_any_order(run, tmp_path):
    """Which is the file system's: whatever is left, weights and epoch agree."""
    begun = Counter()
    for kept in itertools.product([False, True], repeat=4):
        copy = last_whole_folder(run, tmp_path / str(kept))
        for file, keep in zip(sorted(copy.iterdir()), kept, strict=True):
            if not keep:
                file.unlink()
        model, epoch = restart(copy)
        assert_same_state(state(model), run[1][epoch])
        begun[epoch] += 1
    # Keras takes the newest weights, otherwise the previous ones, otherwise none.
    assert begun == {EPOCHS: 8, EPOCHS - 1: 4, 0: 4}


@pytest.mark.parametrize("text", [None, "", "{", '{"epoch": 1, "batch": 0}', "[]"])
def test_the_epoch_is_that_of_the_weights(run, tmp_path, text):
    folder = last_whole_folder(run, tmp_path)
    (folder / METADATA).unlink()
    if text is not None:
        (folder / METADATA).write_text(text)
    model, epoch = restart(folder)
    assert epoch == EPOCHS
    assert json.loads((folder / METADATA).read_text()) == {"epoch": epoch, "batch": 0}
    assert_same_state(state(model), run[1][epoch])


def test_a_first_backup_that_is_broken_is_left_out(run, tmp_path):
    folder = state_after(run, WEIGHTS)
    copy = tmp_path / "backup"
    shutil.copytree(folder, copy)
    with pytest.warns(UserWarning, match="for the first time, .* first epoch") as said:
        model, epoch = restart(copy)
    assert str(copy) in str(said[0].message)
    assert epoch == 0
    assert_same_state(state(model), run[1][0])


def test_a_single_backup_that_is_broken_stays_an_error(run, tmp_path):
    """There was a whole one once: training must not silently begin anew."""
    folder = last_whole_folder(run, tmp_path)
    for file in folder.glob("*.bkp"):
        file.unlink()
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:1000])
    with (
        pytest.warns(UserWarning, match="double_checkpoint=True"),
        pytest.raises(OSError, match="truncated file"),
    ):
        restart(folder, double_checkpoint=False)
    assert (folder / WEIGHTS).exists()


def test_epochs_without_the_callback_are_not_forgotten(tmp_path):
    """The weights then know no epoch: Keras' file is believed."""
    folder = tmp_path / "backup"
    arguments = {"batch_size": 2, "shuffle": False, "verbose": 0}
    backup = backup_in(folder, delete_checkpoint=False)
    fresh_model().fit(X, Y, epochs=2, callbacks=[backup], **arguments)
    assert restart(folder)[1] == 2
    backup = backup_in(folder, delete_checkpoint=False)
    callbacks = [FDRCallback(factor=None), backup]
    fresh_model().fit(X, Y, epochs=3, callbacks=callbacks, **arguments)
    assert restart(folder)[1] == 3
    backup = backup_in(folder, delete_checkpoint=False)
    fresh_model().fit(X, Y, epochs=5, callbacks=[backup], **arguments)
    assert restart(folder)[1] == 5


def test_a_backup_of_another_optimizer_is_left_to_keras(tmp_path):
    folder = tmp_path / "backup"
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", loss="mse")
    backup = backup_in(folder, delete_checkpoint=False)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[backup])
    with pytest.raises(ValueError, match="FDRSGD .* variables of another optimizer"):
        restart(folder)
    assert json.loads((folder / METADATA).read_text())["epoch"] == 2


@pytest.mark.parametrize("by_function", [False, True])
def test_a_run_that_was_stopped_stays_stopped(tmp_path, by_function):
    """Killed between the last backup and its deletion, nothing is trained again."""

    def rule(record):
        return Verdict("stationary", 1.0, record.steps, "told so.")

    def stop(model, verdict):
        model.stop_training = True

    def callback():
        if by_function:
            return FDRCallback(rule=rule, on_stationary=stop)
        arguments = {"factor": 0.5, "min_lr": 0.1, "stop_at_minimum": True}
        return FDRCallback(rule=rule, **arguments)

    arguments = {"batch_size": 2, "shuffle": False, "verbose": 0, "epochs": EPOCHS}
    folder = tmp_path / "backup"
    backup = backup_in(folder, delete_checkpoint=False)
    model = fresh_model()
    history = model.fit(X, Y, callbacks=[callback(), backup], **arguments)
    assert history.epoch == [0]
    copy = fresh_model()
    callbacks = [callback(), backup_in(folder)]
    with pytest.warns(UserWarning, match="stopped this run after epoch 1, so none of"):
        history = copy.fit(X, Y, callbacks=callbacks, **arguments)
    assert history.epoch == []
    assert_same_state(state(copy), state(model))


def test_stopped_by_others_goes_on(tmp_path):
    """Of the stop of another callback nothing is known after a restart."""

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.stop_training = True

    folder = tmp_path / "backup"
    arguments = {"batch_size": 6, "shuffle": False, "verbose": 0, "epochs": EPOCHS}
    backup = backup_in(folder, delete_checkpoint=False)
    callbacks = [FDRCallback(), Stop(), backup]
    history = fresh_model().fit(X, Y, callbacks=callbacks, **arguments)
    assert history.epoch == [0]
    assert restart(folder)[1] == 1
