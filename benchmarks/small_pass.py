"""How long a full-batch pass over few examples takes: one batch, as arrays.

    python -m benchmarks.small_pass [--repetitions N] [--output FILE]

1,437 examples of 64 features, as many as the digits of the examples, and a 64-32-10
network. Four by turns in one process: the pass over the arrays; the pass over a
`tf.data` pipeline that slices the same batch from them, as the pass did with arrays
before; and for each of the two the iterator with its one batch alone. Kept are
quartiles of milliseconds, after one round that is not counted.
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.kept import keep, quartiles
from keras_fdr import FDRSGD, FullBatchPass

EXAMPLES = 1437


def main():
    """Times the four and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=101)
    default = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=default)
    args = parser.parse_args()
    dense = keras.layers.Dense
    model = keras.Sequential(
        [
            keras.Input((64,)),
            dense(32, activation="tanh"),
            dense(10, activation="softmax"),
        ]
    )
    loss = "sparse_categorical_crossentropy"
    model.compile(FDRSGD(l2=0.01), loss=loss, metrics=["accuracy"])
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(EXAMPLES, 64)).astype("float32"))
    y = tf.constant(rng.integers(0, 10, EXAMPLES))
    whole = tf.data.Dataset.from_tensors((x, y))
    starts = tf.data.Dataset.range(0, EXAMPLES, EXAMPLES)
    sliced = starts.map(
        lambda i: (x[i : i + EXAMPLES], y[i : i + EXAMPLES]),
        num_parallel_calls=tf.data.AUTOTUNE,
    ).prefetch(2)
    ways = {
        "pass, arrays": FullBatchPass(model, (x, y)),
        "pass, sliced by tf.data": FullBatchPass(model, sliced),
        "iterator, arrays": lambda: next(iter(whole)),
        "iterator, sliced by tf.data": lambda: next(iter(sliced)),
    }
    seconds = {name: [] for name in ways}
    for repetition in range(args.repetitions + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if repetition:
                seconds[name].append(time.perf_counter() - start)
    rows = [
        {"what": name, "milliseconds": quartiles(np.multiply(values, 1e3), 2)}
        for name, values in seconds.items()
    ]
    for row in rows:
        print(row)
    keep(args.output, {"repetitions": args.repetitions, "rows": rows})


if __name__ == "__main__":
    main()
