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

import warnings

import keras
import numpy as np
import tensorflow as tf

from benchmarks.fit_timing import Epochs, fill_table, options
from keras_fdr import FDRSGD, FDRCallback, FDRObservables

CLASSES = 10


class Unmeasured(FDRObservables):
    """Observables that are switched off."""

    def __call__(self, *args, **kwargs):
        """A row of zeros."""
        return tf.zeros(len(self.names), "float64")


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


def measure(case, args):
    """One row of the table."""
    network, momentum, steps_per_execution, jit_compile, l2 = case
    build, shape, batch_size, steps = NETWORKS[network]
    steps = max(steps, steps_per_execution)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(steps * batch_size, *shape)).astype("float32")
    y = rng.integers(0, CLASSES, steps * batch_size)
    sides = {
        name: (model, [FDRCallback()] if name == "measured" else [])
        for name, model in models(build, momentum, steps_per_execution, jit_compile, l2)
    }
    epochs = Epochs(sides, (x, y), batch_size, args)
    measured, _ = sides["measured"]
    recorded = measured.optimizer.observables.record().steps
    assert recorded == epochs.steps, "not every step was measured"
    return {
        "network": network,
        "parameters": measured.count_params(),
        "momentum": momentum,
        "steps_per_execution": steps_per_execution,
        "jit_compile": jit_compile,
        "l2": l2,
        "threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "repetitions": args.repetitions,
        "steps_a_repetition": steps,
        "microseconds_a_step": epochs.microseconds(),
        "first_epoch_seconds": {n: round(s, 2) for n, s in epochs.first.items()},
        **epochs.ratios(),
    }


# What tells the rows apart.
KEY = ("network", "momentum", "steps_per_execution", "jit_compile", "l2", "threads")


def main():
    """Times every case and writes the table."""
    parser = options(__file__, __doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--jit", choices=("on", "off"), help="only these cases")
    args = parser.parse_args()
    # A loss without L2, which the callback warns of.
    warnings.filterwarnings("ignore", "The loss has no L2 term")
    cases = [
        (case, args)
        for case in CASES
        if case[0] in args.only and args.jit != ("off" if case[3] else "on")
    ]
    what = "one epoch of fit, over fit with keras.optimizers.SGD"
    fill_table(args, what, KEY, cases, measure)


if __name__ == "__main__":
    main()
