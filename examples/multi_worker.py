"""Train with several workers, and see that all of them measure and decide the same.

    python examples/multi_worker.py --workers 2

This starts the workers as processes on this machine and prints one table. It takes well
under a minute. To use several machines, run `worker` on each of them with `TF_CONFIG`
set: https://www.tensorflow.org/guide/distributed_training#TF_CONFIG.
"""

import argparse
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

COLUMNS = ("learning_rate", "loss", "fdr_ratio", "full_batch_loss", "val_accuracy")


def worker(folder, epochs):
    """Trains as one of the workers and writes what it saw to `folder`."""
    import tensorflow as tf

    # The strategy must be made before TensorFlow does anything.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    import keras
    from data import load

    from keras_fdr import (
        FDRSGD,
        FDRCallback,
        on_chief,
        prepare_distributed,
        shuffled_batches,
    )

    keras.utils.set_random_seed(0)  # All workers need the same seed.
    train, test = load("digits")
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input(train[0].shape[1:]),
                keras.layers.Flatten(),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        model.compile(
            optimizer=FDRSGD(learning_rate=0.2, momentum=0.9, l2=0.01),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            steps_per_execution=5,
        )
    prepare_distributed(model)
    seen = []

    class Diary(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            weights = b"".join(w.tobytes() for w in model.get_weights())
            row = {name: logs[name] for name in COLUMNS}
            seen.append({**row, "weights": hashlib.sha256(weights).hexdigest()})

    log = keras.callbacks.CSVLogger(folder / "log.csv")
    fdr = FDRCallback(threshold=0.05, factor=0.5, full_batch=train)
    model.fit(
        shuffled_batches(*train, batch_size=64, seed=0),
        epochs=epochs,
        shuffle=False,
        verbose=0,
        validation_data=test,
        callbacks=[fdr, Diary(), on_chief(model, log)],
    )
    index = strategy.cluster_resolver.task_id
    (folder / f"worker_{index}.json").write_text(json.dumps(seen))


def start(count, folder, epochs):
    """Starts the workers on free ports of this machine and waits for them."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    command = [sys.executable, __file__, "--folder", folder, "--epochs", str(epochs)]
    processes = []
    for index in range(count):
        task = {"type": "worker", "index": index}
        config = {"cluster": {"worker": addresses}, "task": task}
        environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
        environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        environment["CUDA_VISIBLE_DEVICES"] = "-1"  # Workers cannot share a GPU.
        processes.append(subprocess.Popen(command, env=environment))
    try:
        if any([process.wait() for process in processes]):
            raise SystemExit("A worker failed. Its error is printed above.")
    finally:
        for process in processes:
            process.kill()


def main():
    """Starts the workers and prints the table. In a worker, it only trains."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--workers", type=int, default=2, help="how many workers to start"
    )
    parser.add_argument(
        "--epochs", type=int, default=12, help="how many epochs to train"
    )
    parser.add_argument(
        "--folder", type=Path, help="folder through which workers report"
    )
    args = parser.parse_args()
    if "TF_CONFIG" in os.environ:
        worker(args.folder, args.epochs)
        return
    with tempfile.TemporaryDirectory() as folder:
        start(args.workers, folder, args.epochs)
        files = sorted(Path(folder).glob("worker_*.json"))
        diaries = [json.loads(file.read_text()) for file in files]
    print("epoch", *(f"{name:>15}" for name in COLUMNS), f"{len(files)} workers")
    for epoch, rows in enumerate(zip(*diaries, strict=True)):
        values = (f"{rows[0][name]:15.5f}" for name in COLUMNS)
        same = all(row == rows[0] for row in rows)
        print(f"{epoch + 1:5}", *values, "same bits" if same else "DIFFERENT")


if __name__ == "__main__":
    main()
