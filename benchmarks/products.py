"""Ways to compute a scalar product of two weight tensors on a CPU.

    python -m benchmarks.products [--threads N] [--output FILE]

`sum` is the sum of an array of products, `squares` `tf.nn.l2_loss` (of one tensor with
itself), `halves` the diagonal of a 2×2 product of matrices, `ones` the products times a
vector of ones. What `keras_fdr.products` takes: without XLA `halves` where oneDNN is
there, for squares of middling size too, else `sum`; with XLA `ones`. Each runs in a
compiled loop in which the next turn waits for the last; times are over those of an
empty loop. Errors are relative to Σ|a_i b_i|. With TF_ENABLE_ONEDNN_OPTS=0 in the
environment oneDNN is off. Writes JSON; rows of another number of threads, or of the
other, are kept.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks.kept import keep

SHAPES = ((64, 64), (128, 128), (784, 200), (1024, 1024), (2048, 4096))
# As TensorFlow reads it when it starts.
ONEDNN = os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "0"


def halves(a, b):
    """The diagonal of a 2×2 product."""
    a, b = (tf.reshape(t, (2, -1)) for t in (a, b))
    return tf.linalg.trace(tf.matmul(a, b, transpose_b=True))


def ones(a, b):
    """Products times ones."""
    return tf.reduce_sum(tf.matmul(a * b, tf.ones((a.shape[1], 1))))


WAYS = {
    "empty": lambda a, b: tf.zeros(()),
    "sum": lambda a, b: tf.reduce_sum(a * b),
    "squares": lambda a, b: 2 * tf.nn.l2_loss(a),
    "squares_by_halves": lambda a, b: halves(a, a),
    "halves": halves,
    "ones": ones,
}


def build_loop(way, a, b, turns, jit_compile):
    """The loop, as a function without arguments."""

    @tf.function(jit_compile=jit_compile, autograph=False)
    def run():
        def body(i, total):
            with tf.control_dependencies([total]):
                product = way(a.read_value(), b.read_value())
            if jit_compile:
                # Else XLA computes once what does not depend on the turn.
                for variable in (a, b):
                    variable[0, 0].assign(variable[0, 0] + 0 * product)
            return i + 1, total + product

        return tf.while_loop(lambda i, _: i < turns, body, [0, tf.zeros(())])[1]

    return run


def measure(shape, jit_compile, repetitions):
    """One row: microseconds and error of each way."""
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=shape).astype("float32") for _ in range(2))
    a, b = tf.Variable(x), tf.Variable(y)
    turns = max(5, 20_000_000 // x.size)
    loops = {
        name: build_loop(way, a, b, turns, jit_compile) for name, way in WAYS.items()
    }
    times = {name: [] for name in loops}
    for repetition in range(repetitions + 1):
        for name, loop in loops.items():
            start = time.perf_counter()
            loop().numpy()
            if repetition:
                times[name].append((time.perf_counter() - start) / turns * 1e6)
    microseconds = {name: float(np.median(t)) for name, t in times.items()}
    empty = microseconds.pop("empty")
    errors = {}
    for name in microseconds:
        factors = (x, x) if name.startswith("squares") else (x, y)
        exact = factors[0].astype(np.float64) * factors[1]
        way = tf.function(WAYS[name], jit_compile=jit_compile, autograph=False)
        error = abs(float(way(*map(tf.constant, factors))) - exact.sum())
        errors[name] = float(f"{error / np.abs(exact).sum():.1e}")
    return {
        "shape": list(shape),
        "jit_compile": jit_compile,
        "onednn": ONEDNN,
        "threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "microseconds": {name: round(t - empty, 1) for name, t in microseconds.items()},
        "errors": errors,
    }


def main():
    """Times every way and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--threads", type=int, default=0, help="0: TensorFlow's own")
    default = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=default)
    args = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    rows = []
    if args.output.exists():
        kept = json.loads(args.output.read_text())["rows"]
        ours = args.threads, ONEDNN
        rows = [row for row in kept if (row["threads"], row["onednn"]) != ours]
    for shape in SHAPES:
        for jit_compile in (False, True):
            rows.append(measure(shape, jit_compile, args.repetitions))
            print(rows[-1], flush=True)
    result = {
        "what": "microseconds of a scalar product of two arrays of float32",
        "repetitions": args.repetitions,
        "rows": rows,
    }
    keep(args.output, result)


if __name__ == "__main__":
    main()
