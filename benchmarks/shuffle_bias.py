"""FDR2's left side in `fit`, with batches drawn in two ways, against a sweep.

    python benchmarks/shuffle_bias.py [--seeds 4] [--output FILE]

The network of `examples/landscape.py` is trained on digits with SGD until it is near
stationary at η = 0.02. `full_batch_dissipation`, as `FDRCallback` logs it in `fit`, is
then averaged over the newest half of 80 passes. The kept sweeps of that example measure
the same with loops of their own. Writes JSON.
"""

import argparse
import json
from pathlib import Path

import keras
import numpy as np
from landscape import BATCH_SIZE, build_model

from benchmarks.kept import keep, load
from keras_fdr import FDRCallback, shuffled_batches
from keras_fdr.landscape import SweepResults

LEARNING_RATE = 0.02
# Each draw of `fit` and the mode of a sweep that draws in the same way.
MODES = {"independent": "independent", "reshuffled": "paper"}
RESULTS = Path(__file__).resolve().parent.parent / "examples" / "results"


def measure(draw, seed, data, passes=80):
    """`full_batch_dissipation` at the end of one run of `fit`."""
    keras.utils.set_random_seed(seed)
    model = build_model()
    options = {
        "loss": model.loss,
        "steps_per_execution": len(data[0]) // BATCH_SIZE,
        "jit_compile": False,
    }
    model.compile(model.optimizer, **options)
    batches = shuffled_batches(*data, BATCH_SIZE, seed, draw=draw)

    def fit(learning_rate, epochs, **arguments):
        model.optimizer.learning_rate = learning_rate
        callback = FDRCallback(factor=None, **arguments)
        options = {"shuffle": False, "verbose": 0, "callbacks": [callback]}
        return model.fit(batches, epochs=epochs, **options).history

    fit(0.2, 40)
    fit(LEARNING_RATE, 60)
    model.optimizer.observables.reset()
    history = fit(LEARNING_RATE, passes, full_batch=data)
    return history["full_batch_dissipation"][-1]


def swept(mode):
    """The same from the kept sweep: one value for each seed."""
    results = SweepResults.load(RESULTS / f"landscape_digits_{mode}.json")
    rows = [r for r in results.rows if np.isclose(r.learning_rate, LEARNING_RATE)]
    return [row.full_batch_dissipation for row in rows]


def main():
    """Measures and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).with_suffix(".json")
    )
    args = parser.parse_args()
    data, _ = load("digits")
    found = {}
    for draw, mode in MODES.items():
        runs = [measure(draw, seed, data) for seed in range(args.seeds)]
        found[draw] = {"fit": runs, "sweep": swept(mode)}
        print(json.dumps({k: float(np.mean(v)) for k, v in found[draw].items()}))
    keep(args.output, {"learning_rate": LEARNING_RATE, "full_batch_dissipation": found})


if __name__ == "__main__":
    main()
