"""What FDRCallback does between epochs, and what the record takes, as steps go by.

    python -m benchmarks.epoch_end [--output FILE]

`on_epoch_begin` and `on_epoch_end` of FDRCallback (check of the weights, read, verdict,
logs) are timed after 10^3, 10^5 and 10^7 recorded steps, on the MLP of appendix B.1.
The steps are calls of its FDRObservables in a compiled loop, on weights of one number:
the size of the record does not depend on the weights. Bytes are those of the layer's
variables, and the growth of the process while the steps were recorded. Writes JSON.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks.kept import keep, mlp, quartiles
from keras_fdr import FDRSGD, FDRCallback

STEPS = (10**3, 10**5, 10**7)


def build_model():
    """The MLP of appendix B.1."""
    model = mlp()
    model.compile(FDRSGD(0.1, l2=0.01), loss="sparse_categorical_crossentropy")
    return model


def record_steps(observables, steps):
    """Records as many steps of random numbers in one compiled call."""
    arguments = {"momentum": 0.0, "dampening": 0.0}

    @tf.function(jit_compile=True)
    def run(steps):
        def step(i):
            theta, gradient = tf.unstack(tf.random.stateless_uniform([2], [i, 0]))
            rate = tf.constant(0.1)
            observables([theta], [gradient], [], rate, loss=theta, **arguments)
            return i + 1

        tf.while_loop(lambda i: i < steps, step, [tf.constant(0)])

    run(tf.constant(steps))


def resident_bytes():
    """What the process takes, where the system tells."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return 4096 * pages


def main():
    """Times the ends of epochs and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=25)
    default = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=default)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 784)).astype("float32"), rng.integers(0, 10, 100)
    model = build_model()
    callback = FDRCallback(factor=None)
    model.fit(x, y, batch_size=100, verbose=0, callbacks=[callback])
    observables = model.optimizer.observables
    rows = []
    for steps in STEPS:
        recorded = observables.record().steps
        resident = resident_bytes()
        record_steps(observables, steps - recorded)
        resident = resident and resident_bytes() - resident
        milliseconds = {"on_epoch_begin": [], "on_epoch_end": []}
        for _ in range(args.repetitions):
            for name, times in milliseconds.items():
                start = time.perf_counter()
                getattr(callback, name)(1, {})
                times.append((time.perf_counter() - start) * 1e3)
        record = observables.record()
        row = {
            "steps": record.steps,
            "milliseconds_quartiles": {
                name: quartiles(times, 2) for name, times in milliseconds.items()
            },
            "record_bytes": sum(v.numpy().nbytes for v in observables.variables),
            "blocks": len(record.sums),
            "process_growth_bytes": resident,
        }
        assert record.steps == steps
        print(row, flush=True)
        rows.append(row)
    result = {
        "what": "FDRCallback between two epochs, MLP 784-200-200-10",
        "repetitions": args.repetitions,
        "rows": rows,
    }
    keep(args.output, result)


if __name__ == "__main__":
    main()
