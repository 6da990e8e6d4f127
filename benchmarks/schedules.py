"""Learning-rate schedules against each other, on the paper's two models.

    PYTHONPATH=examples python -m benchmarks.schedules --model mlp
    PYTHONPATH=examples python -m benchmarks.schedules --model cnn --no-l2 --no-tuning

The MLP on MNIST and the CNN on CIFAR-10 of appendix B, SGD without momentum, batches of
100. The ways and their settings are in `schedule_ways.py`. 5,000 training images are
held out: `ReduceLROnPlateau` watches them, and the setting of each way with the best
accuracy on them after the last epoch, with seed 0, is its tuned one. Defaults and tuned
settings are then run with all seeds. The test set decides nothing.

Runs share the cores as processes of one thread each. Every finished run is a file in
`--keep`; the same command goes on with what is missing. Results of all models go into
one JSON file, beside which `schedules_report.py` draws the picture. Without λ
(`--no-l2`) a stationary state need not exist.
"""

import argparse
import functools
import json
import os
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.schedule_ways import WAYS, start
from benchmarks.schedules_report import report_on

# PYTHONPATH has the folder of these.
# isort: split
import cifar10_cnn
import mnist_mlp
from data import load
from figure_runs import BATCH_SIZE, L2, STEPS_PER_EXECUTION
from jobs import report, run_jobs, versions

from keras_fdr import shuffled_batches

MODELS = {"mlp": mnist_mlp.PROTOCOL, "cnn": cifar10_cnn.PROTOCOL}
EPOCHS = {"mlp": 30, "cnn": 10}
SEEDS = {"mlp": 3, "cnn": 2}
HELD_OUT = 5_000
load = functools.cache(load)


class Clock(keras.callbacks.Callback):
    """Looks at the test set after each epoch; the seconds are without the looking.

    Stands after the callbacks whose time counts.
    """

    def __init__(self, test):
        super().__init__()
        self.columns = {name: [] for name in ("seconds", "accuracy", "learning_rate")}
        self._test = test

    def on_epoch_begin(self, epoch, logs=None):
        """Takes the time."""
        self._start = time.perf_counter()

    def on_test_begin(self, logs=None):
        """`fit` looks at the held-out images."""
        self._looking = time.perf_counter()

    def on_test_end(self, logs=None):
        """That does not count, as only one of the ways needs it."""
        self._start += time.perf_counter() - self._looking

    def on_epoch_end(self, epoch, logs=None):
        """Keeps the epoch's row."""
        seconds = time.perf_counter() - self._start
        # That of the epoch, if a callback has just cut it.
        rate = (logs or {}).get("learning_rate", self.model.optimizer.learning_rate)
        looked = self.model.evaluate(
            *self._test, batch_size=5_000, verbose=0, return_dict=True
        )
        row = (seconds, looked["accuracy"], rate)
        for column, value in zip(self.columns.values(), row, strict=True):
            column.append(float(f"{float(value):.6g}"))
        report(1)


def train(file, args, way, number, seed):
    """One run; leaves its numbers in `file`."""
    # A new model a run traces its functions anew, as it must.
    tf.get_logger().setLevel("ERROR")
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    protocol = MODELS[args.model]
    model = protocol.network()
    (x, y), test = load(protocol.dataset, args.data_dir, protocol.normalize)
    held_out = x[-HELD_OUT:], y[-HELD_OUT:]
    x, y = (a[: args.examples or -HELD_OUT] for a in (x, y))
    setting = WAYS[way][number]
    optimizer, callbacks = start(way, setting, args.epochs, len(x) // BATCH_SIZE)
    if args.l2:
        for variable in model.trainable_variables:
            # For every optimizer alike; Keras' L2 is without the ½.
            variable.regularizer = keras.regularizers.L2(L2 / 2)
    model.compile(
        optimizer,
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy", "sparse_categorical_crossentropy"],
        steps_per_execution=STEPS_PER_EXECUTION,
    )
    clock = Clock(test)
    history = model.fit(
        shuffled_batches(x, y, BATCH_SIZE, seed),
        shuffle=False,
        epochs=args.epochs,
        validation_data=held_out,
        validation_batch_size=5_000,
        verbose=0,
        callbacks=[*callbacks, clock],
    ).history
    trained = model.evaluate(x, y, batch_size=5_000, verbose=0, return_dict=True)
    last_ratio = history.get("fdr_ratio", [None])[-1]
    run = {
        "way": way,
        "setting": setting,
        "number": number,
        "seed": seed,
        "held_out_accuracy": float(history["val_accuracy"][-1]),
        "train_loss": trained["loss"],
        "train_cross_entropy": trained["sparse_categorical_crossentropy"],
        "train_accuracy": trained["accuracy"],
        "last_ratio": last_ratio if last_ratio is None else float(last_ratio),
        **clock.columns,
    }
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(run) + "\n")
    os.replace(partial, file)


def runs_of(args, wanted):
    """Trains what is missing of the (way, number, seed), and reads all."""
    name = f"{args.model}_{'l2' if args.l2 else 'no_l2'}_{args.epochs}"
    if args.examples:
        name += f"_{args.examples}"
    folder = args.keep / name
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        (way, number, seed): folder / f"{way} {number} seed {seed}.json"
        for way, number, seed in wanted
    }
    jobs = [(file, args, *key) for key, file in files.items() if not file.exists()]
    print(f"{len(jobs)} of {len(files)} runs to do.", flush=True)
    run_jobs(train, jobs, args.processes, args.epochs * len(jobs))
    return {key: json.loads(file.read_text()) for key, file in files.items()}


def compare(args):
    """Tunes, then runs defaults and tuned settings with all seeds."""
    tuned = dict.fromkeys(args.ways, 0)
    if args.tuning:
        settings = [(way, n) for way in args.ways for n in range(len(WAYS[way]))]
        runs = runs_of(args, [(way, number, 0) for way, number in settings])
        for way in args.ways:
            held_out = [
                runs[way, number, 0]["held_out_accuracy"]
                for number in range(len(WAYS[way]))
            ]
            tuned[way] = int(np.argmax(held_out))
    else:
        runs = {}
    wanted = [
        (way, number, seed)
        for seed in range(args.seeds)
        for way in args.ways
        for number in sorted({0, tuned[way]})
    ]
    runs |= runs_of(args, wanted)
    return tuned, list(runs.values())


def main():
    """Runs one model with or without λ and adds it to the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=MODELS, default="mlp")
    parser.add_argument("--epochs", type=int, help="of a run (mlp: 30, cnn: 10)")
    parser.add_argument("--seeds", type=int, help="how many (mlp: 3, cnn: 2)")
    parser.add_argument("--l2", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--tuning", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--examples", type=int, help="training images, for a trial")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--data-dir", help="folder of tensorflow-datasets")
    here = Path(__file__).resolve()
    parser.add_argument("--keep", type=Path, default=here.parent / "schedule_runs")
    parser.add_argument("--output", type=Path, default=here.with_suffix(".json"))
    args = parser.parse_args()
    args.epochs = args.epochs or EPOCHS[args.model]
    args.seeds = args.seeds or SEEDS[args.model]

    tuned, runs = compare(args)
    everything = json.loads(args.output.read_text()) if args.output.exists() else {}
    name = f"{MODELS[args.model].title}, λ = {L2 if args.l2 else 0}"
    everything[name] = {
        **versions(),
        "epochs": args.epochs,
        "seeds": args.seeds,
        "examples": args.examples,
        "tuning": args.tuning,
        "processes": args.processes,
        "cores": os.cpu_count(),
        "wall_times": "seconds of an epoch with so many processes, of one thread each, "
        "at once on these cores; the first has the compilation in it",
        "tuned": tuned,
        "runs": runs,
    }
    args.output.write_text(json.dumps(everything, ensure_ascii=False) + "\n")
    print(report_on(everything, args.output.with_suffix(".png")))


if __name__ == "__main__":
    main()
