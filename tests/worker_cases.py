"""A training job for one process or several workers, and how to start the workers.

Run as a script it is one worker:

    python worker_cases.py CHECKS FOLDER [KILLED_WORKER]
"""

import faulthandler
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_fdr
from keras_fdr import FDRSGD, FDRCallback, on_chief
from keras_fdr.full_batch import passes

BATCH = 32
EPOCHS = 5
KILLED_IN = (1, 2)  # epoch and batch
WHERE = signal.SIGUSR1  # to a worker: write the stacks of all threads


class Recorder(keras.callbacks.Callback):
    """Keeps what the run measured, after each batch and each epoch."""

    def __init__(self, callback):
        super().__init__()
        self.callback = callback
        self.rows, self.passes, self.batches = [], [], []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append([batch, logs["loss"], logs["accuracy"]])

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append(self.callback.record.sums)
        observables = self.model.optimizer.observables
        self.passes.append(observables.full_batch_record().sums)


class Killer(keras.callbacks.Callback):
    """Ends this process in the middle of an epoch, as the kernel would."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == KILLED_IN:
            os.kill(os.getpid(), signal.SIGKILL)


def digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x[:203] / 16).astype("float32"), y[:203].astype("int32")


def make_model(strategy, optimizer, **compiled):
    """Under `strategy`, with the weights of a fixed seed."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        # Sums of two types, which do not go into one message.
        entropy = keras.metrics.SparseCategoricalCrossentropy(
            name="entropy", dtype="float64"
        )
        model = keras.Sequential(
            [
                keras.Input((64,)),
                keras.layers.Dense(16, activation="tanh"),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        model.compile(
            optimizer(),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy", entropy],
            **compiled,
        )
    return keras_fdr.prepare_distributed(model)


def train(strategy, folder=None, callbacks=()):
    """The main job; returns everything it measured, as arrays."""
    x, y = digits()
    model = make_model(strategy, lambda: FDRSGD(0.5, momentum=0.5, l2=0.1))
    # A threshold that cuts within a few epochs.
    callback = FDRCallback(1.4, factor=0.5, full_batch=(x, y))
    recorder = Recorder(callback)
    callbacks = [callback, recorder, *callbacks]
    if folder:
        backup = keras.callbacks.BackupAndRestore(
            folder / "backup", double_checkpoint=True
        )
        saved = keras.callbacks.ModelCheckpoint(
            folder / "best.keras", monitor="val_loss", save_best_only=True, verbose=1
        )
        callbacks[2:2] = [on_chief(model, saved), on_chief(model, backup)]
    history = model.fit(
        keras_fdr.shuffled_batches(x, y, BATCH, seed=0),
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
        validation_data=(x[:41], y[:41]),
    )
    cuts = callback.cuts
    return {
        **{f"history/{name}": values for name, values in history.history.items()},
        **{f"weight/{i}": w for i, w in enumerate(model.get_weights())},
        **{f"rows/{i}": rows for i, rows in enumerate(recorder.rows)},
        **{f"passes/{i}": rows for i, rows in enumerate(recorder.passes)},
        "batches": recorder.batches,
        "cuts": [[c.epoch, c.new_learning_rate, c.ratio] for c in cuts],
        "evaluate": model.evaluate(x, y, batch_size=50, verbose=0),
        "predict": model.predict(x[:41], batch_size=20, verbose=0),
    }


def train_otherwise(strategy):
    """Keras' own optimizer, shuffled arrays, several steps a call, single batches."""
    x, y = digits()
    model = make_model(strategy, lambda: keras.optimizers.SGD(0.0))
    still = model.fit(x, y, batch_size=BATCH, verbose=0).history
    # This is only in the share of the last worker. All must stop, or the others would
    # wait.
    broken = x.copy()
    broken[3 * BATCH - 1] = np.nan
    batches = []
    model.fit(
        broken,
        y,
        batch_size=BATCH,
        shuffle=False,
        verbose=0,
        callbacks=[
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs: batches.append(batch)
            ),
        ],
    )
    model = make_model(
        strategy,
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.01),
        steps_per_execution=3,
    )
    # Of equal shares: stock SGD knows no others.
    callback = FDRCallback(factor=None)
    history = model.fit(
        x[:192],
        y[:192],
        batch_size=24,
        epochs=3,
        shuffle=False,
        verbose=0,
        callbacks=[callback],
    ).history
    return {
        **{f"several/{name}": values for name, values in history.items()},
        "several/rows": callback.record.sums[:, [0, 1, 4]],
        **{f"several/weight/{i}": w for i, w in enumerate(model.get_weights())},
        **{f"still/{name}": values for name, values in still.items()},
        "stopped_after": batches,
        "train_on_batch": model.train_on_batch(x[:8], y[:8]),
        "test_on_batch": model.test_on_batch(x[:8], y[:8]),
    }


def examples_seen(strategy, index=0):
    """The examples in full-batch passes over arrays and datasets of awkward sizes."""
    # The second worker's clock says that no call was short, those of the others that
    # all were. A pass must not depend on what each worker finds separately.
    passes._UPDATE_EVERY = 0.0 if index == 1 else 1e9
    x, y = digits()
    model = make_model(strategy, FDRSGD)
    slices = tf.data.Dataset.from_tensor_slices((x, y))
    datasets = [
        (x[:1], y[:1]),
        (np.tile(x, (6, 1)), np.tile(y, 6)),
        slices.shuffle(203, seed=1).batch(7),
    ]
    return [keras_fdr.FullBatchPass(model, d)().examples for d in datasets]


def start(count, folder, *arguments):
    """Starts `count` workers on this machine, each with its output in a file."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    processes = []
    for index in range(count):
        task = {"type": "worker", "index": index}
        config = {"cluster": {"worker": addresses}, "task": task}
        environment = {
            **os.environ,
            "TF_CONFIG": json.dumps(config),
            "CUDA_VISIBLE_DEVICES": "-1",
            "PYTHONPATH": str(Path(__file__).parent.parent),
        }
        with open(folder / f"worker_{index}.log", "w") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, __file__, *map(str, arguments)],
                    env=environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
    return processes


def finish(processes, seconds):
    """The exit codes; after `seconds` in all, those still running are killed: -9.

    Before, they write into their logs where they are.
    """
    until = time.monotonic() + seconds
    try:
        for process in processes:
            process.wait(max(until - time.monotonic(), 0.01))
    except subprocess.TimeoutExpired:
        for process in processes:
            process.send_signal(WHERE)
        time.sleep(5)
    finally:
        for process in processes:
            process.kill()
    return [process.wait() for process in processes]


def main(checks, folder, killed=None):
    faulthandler.register(WHERE)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    index = strategy.cluster_resolver.task_id
    folder = Path(folder)
    callbacks = [Killer()] if killed == str(index) else []
    results = train(strategy, folder, callbacks)
    if checks == "all":
        results.update(train_otherwise(strategy))
        results["examples"] = examples_seen(strategy, index)
    np.savez(folder / f"worker_{index}.npz", **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
