"""What measuring any optimizer costs: `fit` with FDRCallback over `fit` without it.

    python -m benchmarks.measure_cost [--repetitions N] [--only mlp ...]
                                      [--optimizers adam ...] [--jit on|off]
                                      [--threads N] [--processor] [--output FILE]

Each repetition is one `fit` of one epoch of the stock model and one of the measured
model, in changing order in one process, timed from the epoch's begin to its end with
all that the callbacks do there. Ratios are taken within a repetition. `fdrsgd` is
`FDRSGD` over `keras.optimizers.SGD`; all others are Keras' own optimizer on both sides.
The data are random: the time of a step does not depend on them. Writes JSON, a row at a
time. Rows that are there are replaced.
"""

import itertools
import warnings

import keras
import numpy as np
import tensorflow as tf

from benchmarks.fit_timing import Epochs, fill_table, options
from benchmarks.modern_models import resnet
from benchmarks.overhead import CLASSES, NETWORKS
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


def timed(network, optimizer, args):
    """One row of the table."""
    build, shape, batch_size, steps = CASES[network]
    rng = np.random.default_rng(0)
    count = steps * batch_size
    if network in WORDS:
        x = rng.integers(0, WORDS[network][0], (count, *shape)).astype("int32")
    else:
        x = rng.normal(size=(count, *shape)).astype("float32")
    y = rng.integers(0, CLASSES, count)
    callback = FDRCallback(factor=None)
    sides = {}
    for side, make in zip(("stock", "measured"), OPTIMIZERS[optimizer], strict=True):
        keras.utils.set_random_seed(0)
        model = build(None)
        model.compile(
            make(),
            "sparse_categorical_crossentropy",
            jit_compile=args.jit == "on",
            steps_per_execution=args.steps_per_execution,
        )
        sides[side] = model, [callback] if side == "measured" else []
    epochs = Epochs(sides, (x, y), batch_size, args)
    assert callback.record.steps == epochs.steps, "a step was missed"
    return {
        "network": network,
        "parameters": model.count_params(),
        "optimizer": optimizer,
        "jit_compile": args.jit == "on",
        "steps_per_execution": args.steps_per_execution,
        "threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "repetitions": args.repetitions,
        "microseconds_a_step": epochs.microseconds(),
        **epochs.ratios(),
    }


# What tells the rows apart.
KEY = ("network", "optimizer", "jit_compile", "steps_per_execution", "threads")


def main():
    """Times the cases and writes the table."""
    parser = options(__file__, __doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CASES, default=["mlp", "cnn"])
    parser.add_argument(
        "--optimizers", nargs="+", choices=OPTIMIZERS, default=list(OPTIMIZERS)
    )
    parser.add_argument("--jit", choices=("on", "off"), default="off")
    parser.add_argument("--steps-per-execution", type=int, default=1)
    args = parser.parse_args()
    # The losses have no L2 term, and seeded arrays are as good as any here.
    warnings.filterwarnings("ignore", category=UserWarning)
    cases = itertools.product(args.only, args.optimizers, [args])
    what = "one epoch of fit with FDRCallback, over the same without it"
    fill_table(args, what, KEY, cases, timed)


if __name__ == "__main__":
    main()
