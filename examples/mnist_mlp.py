"""The paper's MLP on MNIST: appendix B.1, and figure 4(a).

    python examples/mnist_mlp.py --schedule preset
    python examples/mnist_mlp.py --schedule adaptive

784-200-200-10, ReLU, Xavier initialisation, pixels of mean 0 and variance 1,
batches of 100 reshuffled each epoch, SGD without momentum, λ = 0.01 on all weights,
η = 0.1 at first. `preset` divides η by 10 each 100 epochs; `adaptive` is the rule of
section 3.3 with X = 0.01 and Y = 0.1. Each run writes its history as JSON; figure
4(a) is drawn from those that are there.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import tensorflow as tf
from data import load

import keras_fdr
from keras_fdr import FDRSGD, FDRCallback, plots

BATCH_SIZE = 100
LEARNING_RATE = 0.1
L2 = 0.01


def build_model():
    """The network of appendix B.1, compiled."""
    dense = keras.layers.Dense
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            dense(200, activation="relu", kernel_initializer="glorot_normal"),
            dense(200, activation="relu", kernel_initializer="glorot_normal"),
            dense(10, activation="softmax", kernel_initializer="glorot_normal"),
        ]
    )
    model.compile(
        optimizer=FDRSGD(learning_rate=LEARNING_RATE, l2=L2),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=100,
    )
    return model


def preset(epoch, learning_rate):
    """Divides the learning rate by 10 each 100 epochs."""
    del learning_rate
    return LEARNING_RATE / 10 ** (epoch // 100)


def main():
    """Runs one schedule, writes its JSON and draws figure 4(a)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schedule", choices=("preset", "adaptive"), required=True)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", help="folder of tensorflow-datasets")
    parser.add_argument("--output", type=Path, default=Path("."))
    args = parser.parse_args()

    keras.utils.set_random_seed(args.seed)
    (x, y), test = load("mnist", args.data_dir)
    everything = tf.data.Dataset.from_tensor_slices((x, y)).batch(10_000).cache()
    if args.schedule == "adaptive":
        callbacks = [
            FDRCallback(threshold=0.01, decay=0.1, full_batch=everything, verbose=1)
        ]
    else:
        callbacks = [
            FDRCallback(decay=None, full_batch=everything),
            keras.callbacks.LearningRateScheduler(preset),
        ]
    model = build_model()
    start = time.time()
    history = model.fit(
        x,
        y,
        batch_size=BATCH_SIZE,
        epochs=args.epochs,
        validation_data=test,
        validation_batch_size=10_000,
        callbacks=callbacks,
        verbose=2,
    ).history

    args.output.mkdir(parents=True, exist_ok=True)
    result = {
        "schedule": args.schedule,
        "seed": args.seed,
        "version": keras_fdr.__version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "seconds": round(time.time() - start),
        "history": {
            name: [float(f"{value:.6g}") for value in values]
            for name, values in history.items()
        },
    }
    path = args.output / f"mnist_mlp_{args.schedule}.json"
    path.write_text(json.dumps(result) + "\n")
    runs = {
        schedule: json.loads(file.read_text())["history"]
        for schedule in ("preset", "adaptive")
        if (file := args.output / f"mnist_mlp_{schedule}.json").exists()
    }
    picture = args.output / "mnist_mlp_figure4a.png"
    plots.schedule(runs, picture, "MLP on MNIST, SGD without momentum")
    print(f"Wrote {path} and {picture}")


if __name__ == "__main__":
    main()
