"""A training run that can be killed anywhere, for `test_resume`.

Imported by a fork server: nothing here may start TensorFlow before `train`.
"""

import itertools
import os
import time

import h5py
import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from keras_fdr import (
    FDRSGD,
    FDRCallback,
    FDRObservables,
    Record,
    measure,
    shuffled_batches,
)

EXAMPLES, BATCH = 200, 20


def digits():
    x, y = load_digits(return_X_y=True)
    return (x[:EXAMPLES] / 16).astype("float32"), y[:EXAMPLES].astype("int32")


class Moments:
    """Tells the parent of each moment, and waits there for the kill if it is the one.

    Args:
        connection: The end of a pipe.
        kind: The kind of moment to be killed at, or `None`.
        count: The how-manieth of that kind, from 0.
        wait: Whether to wait for the kill there, or to run on meanwhile.
    """

    def __init__(self, connection, kind, count, wait):
        self._connection, self._kind = connection, kind
        self._left, self._wait = count, wait

    def __call__(self, kind):
        self._connection.send(kind)
        if kind == self._kind:
            self._left -= 1
            if self._left == -1:
                self._connection.send("kill me")
                if self._wait:
                    time.sleep(600)


class Batches(keras.callbacks.Callback):
    def __init__(self, at):
        super().__init__()
        self._at = at

    def on_train_batch_begin(self, batch, logs=None):
        self._at("batch")


class AfterTheCut(Batches):
    def on_train_batch_begin(self, batch, logs=None):
        pass

    def on_epoch_end(self, epoch, logs=None):
        self._at("cut")


class Saves(keras.callbacks.Callback):
    """Calls when the backup's weights are in the middle of being written, and after."""

    def __init__(self, at):
        super().__init__()
        self._at = at

    def on_train_begin(self, logs=None):
        save, create = self.model.save_weights, h5py.Group.create_dataset

        def create_dataset(*args, **kwargs):
            dataset = create(*args, **kwargs)
            self._at("save")
            return dataset

        def save_weights(*args, **kwargs):
            h5py.Group.create_dataset = create_dataset
            try:
                save(*args, **kwargs)
            finally:
                h5py.Group.create_dataset = create
            self._at("saved")

        self.model.save_weights = save_weights


def training_set_with(at, arrays):
    def batches():
        for i in range(0, EXAMPLES, BATCH):
            at("pass")
            yield tuple(a[i : i + BATCH] for a in arrays)

    specs = tuple(tf.TensorSpec((BATCH, *a.shape[1:]), a.dtype) for a in arrays)
    return tf.data.Dataset.from_generator(batches, output_signature=specs)


def save_records(path, connection):
    """Replaces one file again and again, with records that say how long they are."""
    for steps in itertools.count(1):
        Record(np.full((steps, 5), float(steps)), steps).save(path)
        if steps == 1:
            connection.send("begun")


def train(folder, epochs, connection, stock=False, kind=None, count=0, wait=True):
    """Trains, or continues, with `FDRSGD` or a stock optimizer, and writes the end."""
    # A fork of a process with threads is not sound.
    with open("/proc/self/status") as status:
        assert "Threads:\t1\n" in status.read()
    os.chdir(folder)
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(1)
    at = Moments(connection, kind, count, wait)
    arrays = digits()
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(16, "relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(10),
        ]
    )
    # Few blocks: that they merge is part of what goes on.
    options = {"capacity": 16, "center": "initial", "per_variable": True}
    optimizer = FDRSGD(0.3, 0.9, l2=0.05, observables=FDRObservables(**options))
    if stock:
        optimizer = keras.optimizers.SGD(0.3, 0.9, weight_decay=0.3)
    model.compile(
        optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    if stock:
        measure(model, **options)
    model.fit(
        shuffled_batches(*arrays, BATCH, seed=7),
        shuffle=False,
        epochs=epochs,
        verbose=0,
        callbacks=[
            Batches(at),
            FDRCallback(
                all_columns=True,
                threshold=0.3,
                factor=0.8,
                full_batch=training_set_with(at, arrays),
                full_batch_every=2,
            ),
            keras.callbacks.CSVLogger("log.csv", append=True),
            AfterTheCut(at),
            Saves(at),
            keras.callbacks.BackupAndRestore("backup", double_checkpoint=True),
        ],
    )
    layers = optimizer.observables, optimizer.cut_table, optimizer.progress
    kept = [*model.variables, *optimizer.variables]
    kept += [v for layer in layers for v in layer.variables]
    cuts = [list(vars(cut).values()) for cut in optimizer.cut_table.read()]
    values = {f"{i} {v.name}": v.numpy() for i, v in enumerate(kept)}
    np.savez("result.npz", cuts=np.array(cuts), **values)
