"""What measuring costs: `fit` with FDRSGD and FDRCallback over `fit` with stock SGD.

    python -m benchmarks.overhead [--repetitions N] [--only mlp cnn ...] [--output FILE]

Each repetition is one `fit` of one epoch for each of three models, in changing order in
one process, timed from the epoch's begin to its end with all that the callbacks do
there: `stock` is unmodified `keras.optimizers.SGD` (with the same L2 as
regularisers where there is one), `measured` is `FDRSGD` with `FDRCallback`, `update` is
`FDRSGD` with its observables switched off, by a subclass that only this file has.
Ratios are taken within a repetition. The data are random: the time of a step does not
depend on them. Writes JSON, a row at a time; rows that are there are replaced.

With `--threads 1` each operation runs on one core by itself. On a machine where waking
the other core takes long, as on many virtual ones, that is the only setting in which a
few percent can be seen.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.kept import keep, quartiles
from keras_fdr import FDRSGD, FDRCallback, FDRObservables

CLASSES = 10


class Unmeasured(FDRObservables):
    """Observables that are switched off."""

    def __call__(self, *args, **kwargs):
        """A row of zeros."""
        return tf.zeros(len(self.names), "float64")


class Timer(keras.callbacks.Callback):
    """Seconds of one epoch; to be listed first and last."""

    def __init__(self):
        super().__init__()
        self._start = None

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock, before what the others do here."""
        self._start = self._start or time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Stops it, after what the others do here."""
        self.seconds = time.perf_counter() - self._start


def dense_network(inputs, hidden):
    """A multilayer perceptron."""

    def build(regularizer):
        model = keras.Sequential([keras.Input((inputs,))])
        for units in [*hidden, CLASSES]:
            model.add(
                keras.layers.Dense(
                    units,
                    activation="softmax" if units == CLASSES else "relu",
                    kernel_regularizer=regularizer,
                    bias_regularizer=regularizer,
                )
            )
        return model

    return build


def cnn(regularizer):
    """The network of appendix B.2."""
    options = {"kernel_regularizer": regularizer, "bias_regularizer": regularizer}
    model = keras.Sequential([keras.Input((32, 32, 3))])
    for channels in (16, 20, 20):
        model.add(
            keras.layers.Conv2D(
                channels, 5, padding="same", activation="relu", **options
            )
        )
        model.add(keras.layers.MaxPooling2D(2))
    model.add(keras.layers.Flatten())
    model.add(keras.layers.Dense(CLASSES, activation="softmax", **options))
    return model


# Network, shape of an example, batch size, steps of one fit.
NETWORKS = {
    "mlp": (dense_network(784, [200, 200]), (784,), 100, 600),
    "cnn": (cnn, (32, 32, 3), 100, 50),
    "mlp_20_million": (dense_network(1024, [3072, 4096, 1024]), (1024,), 256, 8),
    "small_500": (dense_network(8, [8] * 249), (8,), 100, 100),
}
# Network, momentum, steps_per_execution, jit_compile, λ.
CASES = [
    *(
        ("mlp", momentum, steps, jit, 0.0)
        for jit in (False, True)
        for momentum in (0.0, 0.9)
        for steps in (1, 50, 600)
    ),
    *(("mlp", momentum, 50, False, 0.01) for momentum in (0.0, 0.9)),
    ("cnn", 0.9, 1, False, 0.0),
    ("cnn", 0.9, 50, False, 0.0),
    ("mlp_20_million", 0.0, 1, False, 0.0),
    ("mlp_20_million", 0.9, 1, False, 0.0),
    ("small_500", 0.0, 1, False, 0.0),
    ("small_500", 0.9, 1, False, 0.0),
]


def models(build, momentum, steps_per_execution, jit_compile, l2):
    """The three models and what each takes as callbacks."""
    ours = {"learning_rate": 0.001, "momentum": momentum, "l2": l2}
    stock = keras.optimizers.SGD(0.001, momentum)
    sides = {
        "stock": (stock, keras.regularizers.L2(l2 / 2) if l2 else None),
        "measured": (FDRSGD(**ours), None),
        "update": (FDRSGD(**ours, observables=Unmeasured()), None),
    }
    for name, (optimizer, regularizer) in sides.items():
        keras.utils.set_random_seed(0)
        model = build(regularizer)
        model.compile(
            optimizer=optimizer,
            loss="sparse_categorical_crossentropy",
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
        )
        yield name, model


def measure(case, repetitions):
    """One row of the table."""
    network, momentum, steps_per_execution, jit_compile, l2 = case
    build, shape, batch_size, steps = NETWORKS[network]
    steps = max(steps, steps_per_execution)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(steps * batch_size, *shape)).astype("float32")
    y = rng.integers(0, CLASSES, steps * batch_size)
    sides = dict(models(build, momentum, steps_per_execution, jit_compile, l2))
    seconds = {name: [] for name in sides}
    first = {}
    order = list(sides)
    for repetition in range(-2, repetitions):
        order.append(order.pop(0))
        for name in order:
            model = sides[name]
            callbacks = [FDRCallback()] if name == "measured" else []
            start = time.perf_counter()
            timer = Timer()
            model.fit(x, y, batch_size, verbose=0, callbacks=[timer, *callbacks, timer])
            first.setdefault(name, time.perf_counter() - start)
            if repetition >= 0:
                seconds[name].append(timer.seconds)
    measured = sides["measured"].optimizer.observables.record().steps
    assert measured == (repetitions + 2) * steps, "not every step was measured"
    row = {
        "network": network,
        "parameters": sides["stock"].count_params(),
        "momentum": momentum,
        "steps_per_execution": steps_per_execution,
        "jit_compile": jit_compile,
        "l2": l2,
        "threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "repetitions": repetitions,
        "steps_a_repetition": steps,
        "microseconds_a_step": {
            name: round(float(np.median(times)) / steps * 1e6, 1)
            for name, times in seconds.items()
        },
        "first_epoch_seconds": {name: round(s, 2) for name, s in first.items()},
    }
    for name in ("measured", "update"):
        ratios = np.array(seconds[name]) / np.array(seconds["stock"])
        low, ratio, high = quartiles(ratios)
        row[f"{name}_over_stock"] = ratio
        row[f"{name}_over_stock_quartiles"] = [low, high]
        row[f"{name}_over_stock_of_fastest"] = round(
            min(seconds[name]) / min(seconds["stock"]), 3
        )
    return row


def main():
    """Times every case and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--jit", choices=("on", "off"), help="only these cases")
    parser.add_argument("--threads", type=int, default=0, help="0: TensorFlow's own")
    default = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=default)
    args = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    # A loss without L2, which the callback warns of.
    warnings.filterwarnings("ignore", "The loss has no L2 term")
    rows = {}
    if args.output.exists():
        kept = json.loads(args.output.read_text())["rows"]
        rows = {key(row): row for row in kept}
    for case in CASES:
        network, _, _, jit_compile, _ = case
        if network not in args.only or args.jit == ("off" if jit_compile else "on"):
            continue
        row = measure(case, args.repetitions)
        print(row, flush=True)
        rows[key(row)] = row
        result = {
            "what": "one epoch of fit, over fit with keras.optimizers.SGD",
            "rows": list(rows.values()),
        }
        keep(args.output, result)
        keras.backend.clear_session()


def key(row):
    """What tells the rows apart."""
    names = (
        "network",
        "momentum",
        "steps_per_execution",
        "jit_compile",
        "l2",
        "threads",
    )
    return tuple(row[name] for name in names)


if __name__ == "__main__":
    main()
