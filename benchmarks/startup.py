"""Import and first epoch of a fresh process, over those of stock Keras.

    python -m benchmarks.startup [--repetitions N] [--output FILE]

Two kinds of process by turns: one imports keras and trains the MLP of appendix B.1 with
`keras.optimizers.SGD`, one imports keras and keras_fdr and trains it with FDRSGD and
FDRCallback. Each times its imports and its first epoch, of 600 steps of 100 examples,
which is when the train step is traced: from the call of `fit` to the last callback's
`on_epoch_end`. After that `fit` may or may not take down its data pipeline, in up to
0.7 s, which stock Keras leaves to a later garbage collection. Writes JSON.
"""

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np

CHILD = """
import time
start = time.perf_counter()
import keras
if {ours}:
    import keras_fdr
imported = time.perf_counter()
import json
import numpy as np
rng = np.random.default_rng(0)
x = rng.normal(size=(60_000, 784)).astype("float32")
y = rng.integers(0, 10, 60_000)
dense = keras.layers.Dense
model = keras.Sequential([
    keras.Input((784,)), dense(200, activation="relu"), dense(200, activation="relu"),
    dense(10, activation="softmax")])
if {ours}:
    optimizer = keras_fdr.FDRSGD(0.01, momentum=0.9, l2=1e-4)
    callbacks = [keras_fdr.FDRCallback()]
else:
    optimizer, callbacks = keras.optimizers.SGD(0.01, momentum=0.9), []
model.compile(optimizer, "sparse_categorical_crossentropy")
ends = []
callbacks.append(keras.callbacks.LambdaCallback(
    on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter())))
begin = time.perf_counter()
model.fit(x, y, batch_size=100, verbose=0, callbacks=callbacks)
first = ends[0] - begin
versions = {{"keras": keras.__version__}}
if {ours}:
    versions["keras_fdr"] = keras_fdr.__version__
print(json.dumps([imported - start, first, versions]))
"""


def run(ours):
    """Seconds of the imports and of the first epoch, and versions."""
    command = [sys.executable, "-c", CHILD.format(ours=ours)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Starts the processes and writes the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=7)
    default = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=default)
    args = parser.parse_args()
    run(True)  # Fills the system's caches.
    pairs = []
    for repetition in range(args.repetitions):
        order = (False, True) if repetition % 2 else (True, False)
        results = {ours: run(ours) for ours in order}
        pairs.append([results[False], results[True]])
        print(pairs[-1], flush=True)
    result = {
        "what": "a fresh process with keras_fdr over one with stock Keras",
        "repetitions": args.repetitions,
        "versions": {**pairs[0][1][2], "python": platform.python_version()},
    }
    for i, name in enumerate(("import", "first_epoch")):
        seconds = np.array([[stock[i], ours[i]] for stock, ours in pairs])
        ratio = np.quantile(seconds[:, 1] / seconds[:, 0], [0.25, 0.5, 0.75])
        stock, ours = np.median(seconds, axis=0)
        result[name] = {
            "seconds_stock": round(float(stock), 2),
            "seconds": round(float(ours), 2),
            "ratio_quartiles": [round(float(r), 3) for r in ratio],
        }
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
