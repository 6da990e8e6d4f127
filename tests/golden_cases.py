"""The runs whose files are kept in `tests/golden`, and the script that makes them.

`python tests/golden_cases.py` writes the files anew. It is only to be run when a new
kind of file is added: the files of older code must load for ever.
"""

import shutil
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_fdr import FDRSGD, FDRCallback, FDRObservables, export_trainer, landscape

GOLDEN = Path(__file__).parent / "golden"
SETTINGS = ("momentum", "per_variable", "mixed_float16")
TRAINED_EPOCHS = 2
STAGES = [(0.05, 4), (0.02, 4)]


def data():
    """24 examples of exact binary fractions, the same on every machine."""
    x = ((np.arange(24 * 6) * 37) % 64).reshape(24, 6) / 32.0 - 1
    y = x[:, :3] * 0.5 + 0.25
    return x.astype("float32"), y.astype("float32")


def new_model(setting):
    """A compiled model that has not been trained."""
    policy = "mixed_float16" if setting == "mixed_float16" else "float32"
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((6,)),
        keras.layers.Dense(4, activation="tanh", name="hidden"),
        keras.layers.Dense(3, name="outputs", dtype="float32"),
    ]
    model = keras.Sequential(layers, name="golden")
    model.compile(optimizer(setting), loss="mse")
    keras.config.set_dtype_policy("float32")
    return model


def optimizer(setting):
    """The optimizer of one of `SETTINGS`."""
    if setting == "momentum":
        return FDRSGD(
            0.05, momentum=0.9, l2=0.01, observables=FDRObservables(capacity=4)
        )
    if setting == "per_variable":
        observables = FDRObservables(capacity=8, center="initial", per_variable=True)
        return FDRSGD(
            0.05, momentum=0.5, dampening=0.25, l2=0.01, observables=observables
        )
    inner = FDRSGD(
        0.05,
        momentum=0.9,
        l2=0.01,
        gradient_accumulation_steps=2,
        observables=FDRObservables(capacity=8),
    )
    return keras.optimizers.LossScaleOptimizer(inner, initial_scale=16.0)


def fit(model, epochs, initial_epoch=0, callbacks=(), threshold=1e-9):
    """Trains in a fixed order; a threshold of 1e9 cuts at each epoch's end."""
    x, y = data()
    own = FDRCallback(threshold=threshold, full_batch=(x, y))
    return model.fit(
        x,
        y,
        batch_size=4,
        epochs=epochs,
        initial_epoch=initial_epoch,
        shuffle=False,
        verbose=0,
        callbacks=[own, *callbacks],
    )


def measuring(model):
    """The model's `FDRSGD`."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def state(model):
    """All numbers of a model, its optimizer and its record, as NumPy arrays."""
    own = measuring(model)
    numbers = {}
    for prefix, variables in (
        ("weight", model.weights),
        ("optimizer", model.optimizer.variables),
        ("velocity", own.velocities),
        ("center", own.observables.theta_center),
    ):
        for i, variable in enumerate(variables):
            numbers[f"{prefix}_{i}"] = variable.numpy()
    record = own.observables.record()
    numbers["record"] = record.sums
    numbers["steps"] = np.array([record.steps, record.block_length])
    numbers["learning_rate"] = np.array(record.learning_rate)
    numbers["passes"] = own.observables.full_batch_record().sums
    cuts = own.cut_table.read()
    numbers["cuts"] = np.array(
        [[c.epoch - 1, c.old_learning_rate, c.new_learning_rate, c.ratio] for c in cuts]
    )
    if own.observables.per_variable:
        # By position: the names of weights are not part of these files.
        records = own.observables.record_by_variable().values()
        for i, record in enumerate(records):
            numbers[f"record_{i}"] = record.sums
    return numbers


def begin(setting, callbacks=()):
    """Trains one epoch that ends with a cut, and then one without."""
    model = new_model(setting)
    fit(model, 1, threshold=1e9)
    fit(model, TRAINED_EPOCHS, initial_epoch=1, callbacks=callbacks)
    return model


def sweep(directory):
    """A small sweep, kept in `directory`."""
    x, y = data()
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, name="linear")])
    model.compile(FDRSGD(0.05, l2=0.01), loss="mse")
    model.set_weights([np.full((6, 3), 0.5, "float32"), np.zeros(3, "float32")])
    return landscape.sweep(
        model,
        (x, y),
        STAGES,
        seeds=2,
        batch_size=4,
        verbose=0,
        directory=str(directory),
    )


class Interrupt(keras.callbacks.Callback):
    """Ends a run in the middle of its third epoch."""

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == TRAINED_EPOCHS and batch == 2:
            raise InterruptedError

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


def interrupted(directory):
    """A run with a backup that ends in the middle of an epoch."""
    model = new_model("momentum")
    fit(model, 1, threshold=1e9)
    backup = keras.callbacks.BackupAndRestore(directory, double_checkpoint=True)
    try:
        fit(
            model,
            TRAINED_EPOCHS + 2,
            initial_epoch=1,
            callbacks=[backup, Interrupt()],
        )
    except InterruptedError:
        return
    raise AssertionError("the run was to be interrupted")


def make():
    """Writes all files."""
    shutil.rmtree(GOLDEN, ignore_errors=True)
    GOLDEN.mkdir()
    for setting in SETTINGS:
        model = begin(setting)
        model.save(GOLDEN / f"{setting}.keras")
        model.save_weights(GOLDEN / f"{setting}.weights.h5")
        checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
        checkpoint.write(str(GOLDEN / f"{setting}_checkpoint"))
        np.savez(GOLDEN / f"{setting}_state.npz", **state(model))
        if setting == "momentum":
            model.optimizer.observables.record().save(GOLDEN / "record.npz")
            signature = [tf.TensorSpec([None, n], tf.float32) for n in (6, 3)]
            export_trainer(model, str(GOLDEN / "trainer"), tuple(signature))
        fit(model, TRAINED_EPOCHS + 1, initial_epoch=TRAINED_EPOCHS)
        np.savez(GOLDEN / f"{setting}_next.npz", **state(model))
    interrupted(GOLDEN / "backup")
    sweep(GOLDEN / "sweep")


if __name__ == "__main__":
    make()
