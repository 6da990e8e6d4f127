"""Where the time of a step goes, by operation, and what memory allows.

    python -m benchmarks.step_profile [--output FILE]

TensorFlow's profiler over one epoch in a compiled loop
(`keras_fdr.landscape.compiled_loop`), of the MLP of
appendix B.1 at batch 100, with `keras.optimizers.SGD` and with FDRSGD, on one thread,
so that times add up. Operations that TensorFlow takes for cheap are not profiled by
themselves; `rest` is what they and the executor take.

The limit: beside the gradient's own work a measured step must read weights and
gradients (and velocities) once more, and more slowly than memory gives them it cannot.
Bandwidth is that of a sum of squares over an array as large as these, and over one that
no cache holds. Writes JSON.
"""

import argparse
import collections
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks.kept import keep, mlp
from keras_fdr import FDRSGD
from keras_fdr.batches import reshuffled_order, whole_batches
from keras_fdr.landscape.compiled_loop import CompiledLoop

EXAMPLES, BATCH_SIZE = 30_000, 100
# What the profiler puts around operations.
FRAMES = ("_steps", "Eager", "TFE_", "inference", "Run", "Process", "Executor", "tf.")


def build_loop(optimizer, data):
    """The MLP's compiled loop."""
    keras.utils.set_random_seed(0)
    model = mlp()
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    optimizer.build(model.trainable_variables)
    return CompiledLoop(model, data)


def operations(loop, batches):
    """Microseconds and calls of each operation in a step."""
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        loop.run(batches)
        tf.profiler.experimental.stop()
        [path] = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    totals = collections.Counter()
    calls = collections.Counter()
    for plane in space.planes:
        if "CPU" not in plane.name:
            continue
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name.split(":")[-1]
                totals[name] += event.duration_ps / 1e6 / len(batches)
                calls[name] += 1 / len(batches)
    return {
        name: {"microseconds": round(total, 1), "calls": round(calls[name], 1)}
        for name, total in totals.most_common()
        if total > 1 and not any(frame in name for frame in FRAMES)
    }


def step_microseconds(loop, batches, repetitions=7):
    """Median time of a step without the profiler."""
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        loop.run(batches)
        times.append((time.perf_counter() - start) / len(batches) * 1e6)
    return round(float(np.median(times)), 1)


def gigabytes_a_second(elements):
    """How fast one thread reads an array, by a sum of squares."""
    array = tf.random.normal([elements])

    @tf.function
    def read(times):
        total = tf.zeros(())
        for _ in tf.range(times):
            with tf.control_dependencies([total]):
                total += tf.nn.l2_loss(tf.identity(array))
        return total

    times = tf.constant(max(3, 40_000_000 // elements))
    read(times)
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        read(times).numpy()
        seconds.append((time.perf_counter() - start) / int(times))
    return round(4 * elements / float(np.median(seconds)) / 1e9, 1)


def main():
    """Profiles both optimizers at both momenta and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=default)
    args = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, 784)).astype("float32")
    y = rng.integers(0, 10, EXAMPLES)
    batches = whole_batches(reshuffled_order(rng, EXAMPLES), BATCH_SIZE)
    parameters = 784 * 200 + 200 + 200 * 200 + 200 + 200 * 10 + 10
    bandwidth = {
        "as_large_as_the_weights": gigabytes_a_second(parameters),
        "in_no_cache": gigabytes_a_second(50_000_000),
    }
    rows = []
    for momentum in (0.0, 0.9):
        for optimizer in (keras.optimizers.SGD, FDRSGD):
            loop = build_loop(optimizer(0.01, momentum=momentum), (x, y))
            loop.run(batches)
            step = step_microseconds(loop, batches)
            table = operations(loop, batches)
            named = sum(row["microseconds"] for row in table.values())
            arrays = 3 if momentum else 2
            row = {
                "optimizer": optimizer.__name__,
                "momentum": momentum,
                "microseconds_a_step": step,
                "operations": table,
                "rest": round(step - named, 1),
            }
            if optimizer is FDRSGD:
                row["bytes_to_read"] = 4 * parameters * arrays
                row["microseconds_to_read_them"] = round(
                    row["bytes_to_read"] / bandwidth["as_large_as_the_weights"] / 1e3, 1
                )
            print(row, flush=True)
            rows.append(row)
    result = {
        "what": "one step of the MLP of appendix B.1 on one thread",
        "gigabytes_a_second": bandwidth,
        "rows": rows,
    }
    keep(args.output, result)


if __name__ == "__main__":
    main()
