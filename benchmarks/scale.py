"""Memory and time of a step of very large models, over those of stock Keras.

    python -m benchmarks.scale [--steps N] [--output FILE]

Two models: ten layers with 10 million weights each, and one layer with 10,000 weight
tensors of 25 numbers each, measured with `per_variable=True`. For each, a process
trains with `keras.optimizers.SGD` and one with `FDRSGD`, both with momentum 0.9. Each
reports the largest memory that it ever held, the time of the first step, in which
TensorFlow traces the step, and the median time of a later step. Writes JSON.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

MODELS = {
    "100 million weights": {"layers": 10, "units": 3162, "batch": 64},
    "10,000 weight tensors": {"layers": 10_000, "units": 5, "batch": 64},
}
OPTIMIZERS = ("stock", "FDRSGD", "FDRSGD, centred")

CHILD = """
import json, resource, statistics, sys, time
import keras, numpy as np, tensorflow as tf
import keras_fdr

layers, units, batch, optimizer, steps = json.loads(sys.argv[1])


class Stack(keras.layers.Layer):
    def build(self, shape):
        self.kernels = [
            self.add_weight((units, units), "glorot_uniform") for _ in range(layers)]
        self.built = True

    def call(self, x):
        if layers > 100:
            return tf.matmul(x, tf.add_n([k.value for k in self.kernels]))
        for kernel in self.kernels:
            x = tf.nn.relu(tf.matmul(x, kernel) + x)
        return x


model = keras.Sequential([keras.Input((units,)), Stack()])
if optimizer == "stock":
    made = keras.optimizers.SGD(1e-6, 0.9)
else:
    center = "initial" if "centred" in optimizer else None
    observables = keras_fdr.FDRObservables(
        capacity=256, center=center, per_variable=layers > 100)
    made = keras_fdr.FDRSGD(1e-6, 0.9, observables=observables)
model.compile(made, "mse")
x = np.random.default_rng(0).normal(size=(batch, units)).astype("float32")
times = []
for _ in range(steps):
    begin = time.perf_counter()
    model.train_on_batch(x, x)
    times.append(time.perf_counter() - begin)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
record = sum(
    v.numpy().nbytes
    for v in getattr(made, "observables", keras.layers.Layer()).variables)
print(json.dumps({
    "first_step_s": round(times[0], 2),
    "step_ms": round(1e3 * statistics.median(times[1:]), 1),
    "peak_mib": round(peak),
    "record_mib": round(record / 2**20, 1),
}))
"""


def measure(model, optimizer, steps):
    """What a process reports of one model and optimizer."""
    of = MODELS[model]
    arguments = [of["layers"], of["units"], of["batch"], optimizer, steps]
    command = [sys.executable, "-c", CHILD, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Measures all, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10)
    default = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=default)
    args = parser.parse_args()
    from benchmarks.kept import keep

    found = {}
    for model in MODELS:
        for optimizer in OPTIMIZERS:
            row = measure(model, optimizer, args.steps)
            found.setdefault(model, {})[optimizer] = row
            print(model, optimizer, row, flush=True)
    keep(args.output, {"what": "memory and time of large models", "found": found})


if __name__ == "__main__":
    main()
