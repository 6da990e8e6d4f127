"""What measuring any optimizer costs: `fit` with FDRCallback over `fit` without it.

    python -m benchmarks.measure_cost [--repetitions N] [--only mlp ...]
                                      [--optimizers adam ...] [--jit on|off]
                                      [--threads N] [--output FILE]

Each repetition is one `fit` of one epoch of the stock model and one of the measured
model, in changing order in one process, timed from the epoch's begin to its end with
all that the callbacks do there. Ratios are taken within a repetition. `fdrsgd` is
`FDRSGD` over `keras.optimizers.SGD`; all others are Keras' own optimizer on both sides.
The data are random: the time of a step does not depend on them. Writes JSON, a row at a
time. Rows that are there are replaced.
"""

import argparse
import json
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.kept import keep, quartiles
from benchmarks.modern_models import resnet
from benchmarks.overhead import CLASSES, NETWORKS, Timer
from keras_fdr import FDRSGD, FDRCallback

# The rows of each embedding, of 32 numbers each, and the steps of one epoch.
WORDS = {"embedding": (1_000_000, 100), "embedding of 100,000": (100_000, 400)}


def embedding(words):
    """A network that takes the means of 16 rows of an embedding."""
    layers = keras.layers

    def build(_):
        return keras.Sequential(
            [
                keras.Input((16,), dtype="int32"),
                layers.Embedding(words, 32),
                layers.GlobalAveragePooling1D(),
                layers.Dense(CLASSES, activation="softmax"),
            ]
        )

    return build


def residual(_):
    """ResNet-20 of CIFAR-10."""
    logits = resnet((32, 32, 3), 3)
    return keras.Sequential([logits, keras.layers.Softmax()])


# Network, shape of an example, batch size, steps of one epoch.
CASES = {
    **NETWORKS,
    **{name: (embedding(w), (16,), 256, steps) for name, (w, steps) in WORDS.items()},
    "resnet20": (residual, (32, 32, 3), 256, 40),
}
OPTIMIZERS = {
    "fdrsgd": (
        lambda: keras.optimizers.SGD(1e-3, 0.9),
        lambda: FDRSGD(1e-3, 0.9),
    ),
    "fdrsgd without momentum": (
        lambda: keras.optimizers.SGD(1e-3),
        lambda: FDRSGD(1e-3),
    ),
    **{
        name: (make, make)
        for name, make in {
            "sgd": lambda: keras.optimizers.SGD(1e-3),
            "momentum": lambda: keras.optimizers.SGD(1e-3, 0.9),
            "adam": lambda: keras.optimizers.Adam(1e-4),
            "adamw": lambda: keras.optimizers.AdamW(1e-4),
        }.items()
    },
}


def timed(network, optimizer, jit_compile, steps_per_execution, repetitions):
    """One row of the table."""
    build, shape, batch_size, steps = CASES[network]
    rng = np.random.default_rng(0)
    count = steps * batch_size
    if network in WORDS:
        x = rng.integers(0, WORDS[network][0], (count, *shape)).astype("int32")
    else:
        x = rng.normal(size=(count, *shape)).astype("float32")
    y = rng.integers(0, CLASSES, count)
    sides = {}
    for side, make in zip(("stock", "measured"), OPTIMIZERS[optimizer], strict=True):
        keras.utils.set_random_seed(0)
        sides[side] = model = build(None)
        model.compile(
            make(),
            "sparse_categorical_crossentropy",
            jit_compile=jit_compile,
            steps_per_execution=steps_per_execution,
        )
    seconds, order = {name: [] for name in sides}, list(sides)
    callback = FDRCallback(factor=None)
    for repetition in range(-2, repetitions):
        order.reverse()
        for name in order:
            timer = Timer()
            measuring = [callback] if name == "measured" else []
            sides[name].fit(
                x, y, batch_size, verbose=0, callbacks=[timer, *measuring, timer]
            )
            if repetition >= 0:
                seconds[name].append(timer.seconds)
    assert callback.record.steps == (repetitions + 2) * steps, "a step was missed"
    ratios = np.array(seconds["measured"]) / np.array(seconds["stock"])
    low, ratio, high = quartiles(ratios)
    return {
        "network": network,
        "parameters": sides["stock"].count_params(),
        "optimizer": optimizer,
        "jit_compile": jit_compile,
        "steps_per_execution": steps_per_execution,
        "threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "repetitions": repetitions,
        "microseconds_a_step": {
            name: round(float(np.median(times)) / steps * 1e6, 1)
            for name, times in seconds.items()
        },
        "measured_over_stock": ratio,
        "measured_over_stock_quartiles": [low, high],
        "measured_over_stock_of_fastest": round(
            min(seconds["measured"]) / min(seconds["stock"]), 3
        ),
    }


def key(row):
    """What tells the rows apart."""
    names = "network", "optimizer", "jit_compile", "steps_per_execution", "threads"
    return tuple(row[name] for name in names)


def main():
    """Times the cases and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--only", nargs="+", choices=CASES, default=["mlp", "cnn"])
    parser.add_argument(
        "--optimizers", nargs="+", choices=OPTIMIZERS, default=list(OPTIMIZERS)
    )
    parser.add_argument("--jit", choices=("on", "off"), default="off")
    parser.add_argument("--steps-per-execution", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="0: TensorFlow's own")
    default = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=default)
    args = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    # The losses have no L2 term, and seeded arrays are as good as any here.
    warnings.filterwarnings("ignore", category=UserWarning)
    rows = {}
    if args.output.exists():
        kept = json.loads(args.output.read_text())["rows"]
        rows = {key(row): row for row in kept}
    for network in args.only:
        for optimizer in args.optimizers:
            row = timed(
                network,
                optimizer,
                args.jit == "on",
                args.steps_per_execution,
                args.repetitions,
            )
            print(row, flush=True)
            rows[key(row)] = row
            what = "one epoch of fit with FDRCallback, over the same without it"
            keep(args.output, {"what": what, "rows": list(rows.values())})
            keras.backend.clear_session()


if __name__ == "__main__":
    main()
