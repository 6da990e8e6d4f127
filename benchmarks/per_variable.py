"""Time of a step that records every weight tensor by itself, over one that does not.

    python -m benchmarks.per_variable [--repetitions N] [--output FILE]

The whole epoch (600 batches of 100) runs in one compiled loop
(`keras_fdr.landscape.compiled_loop`) on random data: the time of a step does not depend
on it. Networks: the MLP of appendix B.1
and one of 100 small weight tensors, where whatever is done once a tensor weighs most.
Both settings are run by turns in one process, in alternating order; ratios are taken
within a turn. Writes JSON.
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np

from benchmarks.kept import keep, quartiles
from keras_fdr import FDRSGD, FDRObservables
from keras_fdr.batches import reshuffled_order, whole_batches
from keras_fdr.landscape.compiled_loop import CompiledLoop

EXAMPLES, BATCH_SIZE, CLASSES = 60_000, 100, 10


def mlp():
    """784-200-200-10, as in appendix B.1: 6 weight tensors."""
    return [200, 200], 784


def many_small():
    """49 layers of 8 units and the output: 100 weight tensors."""
    return [8] * 49, 8


def build_loop(network, data, momentum, jit_compile, per_variable):
    """The compiled loop of a new model."""
    hidden, inputs = network()
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense
    model = keras.Sequential([keras.Input((inputs,))])
    for units in hidden:
        model.add(dense(units, activation="relu"))
    model.add(dense(CLASSES))
    model.compile(
        optimizer=FDRSGD(
            0.01,
            momentum,
            l2=0.01,
            observables=FDRObservables(per_variable=per_variable),
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
    )
    return model, CompiledLoop(model, data)


def measure(network, momentum, jit_compile, repetitions):
    """One row of the table."""
    _, inputs = network()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, inputs)).astype("float32")
    y = rng.integers(0, CLASSES, EXAMPLES).astype("int32")
    batches = whole_batches(reshuffled_order(rng, EXAMPLES), BATCH_SIZE)
    runs = {
        flag: build_loop(network, (x, y), momentum, jit_compile, flag)
        for flag in (False, True)
    }
    seconds = {False: [], True: []}
    for repetition in range(-1, repetitions):
        for flag in sorted(runs, reverse=bool(repetition % 2)):
            model, loop = runs[flag]
            start = time.perf_counter()
            loop.run(batches)
            # A read of what the last step wrote: the loop has ended.
            steps = model.optimizer.observables.record().steps
            if repetition >= 0:
                seconds[flag].append(time.perf_counter() - start)
        assert steps == (repetition + 2) * len(batches)
    model, _ = runs[True]
    weights = [m.get_weights() for m, _ in runs.values()]
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)
    ratios = np.array(seconds[True]) / np.array(seconds[False])
    low, ratio, high = quartiles(ratios)
    microseconds = {
        str(flag): [
            round(float(q) * 1e6 / len(batches), 1)
            for q in np.quantile(times, [0.25, 0.5, 0.75])
        ]
        for flag, times in seconds.items()
    }
    return {
        "network": network.__name__,
        "weight_tensors": len(model.trainable_variables),
        "momentum": momentum,
        "jit_compile": jit_compile,
        "microseconds_a_step_quartiles": microseconds,
        "ratio": ratio,
        "ratio_quartiles": [low, high],
        "ratio_of_fastest": round(min(seconds[True]) / min(seconds[False]), 3),
    }


def main():
    """Times both settings of both networks and writes the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=15)
    default = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=default)
    args = parser.parse_args()
    rows = []
    for network in (mlp, many_small):
        for momentum in (0.0, 0.9):
            for jit_compile in (False, True):
                row = measure(network, momentum, jit_compile, args.repetitions)
                print(row, flush=True)
                rows.append(row)
    result = {
        "what": "step time with FDRObservables(per_variable=True) over False",
        "repetitions": args.repetitions,
        "steps_a_repetition": EXAMPLES // BATCH_SIZE,
        "rows": rows,
    }
    keep(args.output, result)


if __name__ == "__main__":
    main()
