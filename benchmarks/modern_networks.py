"""Schedules against each other on networks and weight decays of today.

    python -m benchmarks.modern_networks --rows "mnist,mlp,epochs=15" --minutes 8
    python -m benchmarks.modern_networks --report

A run trains one network on one dataset with one λ (of ½λ|θ|², on all weights), budget
of epochs, way and seed. The name of a run has all of these, such as
"cifar10 cnn l2=0.0005 epochs=15 images=10000 cosine seed=0". Initial weights, the order
of the data and its augmentation (CIFAR-10 only: shifts and mirror images, new in each
epoch) are the same for all ways of a seed. 5,000 training images are held out for
`ReduceLROnPlateau`. The test set is looked at once, at the end of a run. AdamW has
decoupled weight decay, so that it is run once for all λ.

Every finished run is one line of JSON in `--output`, appended in one write. A run that
is there is not done again. `--minutes` ends this call when so many have passed; with
`--keep` the run that is cut short goes on from its last epoch in the next call
(`plateau` begins again, since Keras does not save its state). Several processes may
write to one file: give each a `--share`, as 0/4, 1/4, 2/4 and 3/4. On a machine with a
GPU, `--jit` pays for the ResNets; small networks can train on its processor meanwhile,
with `--threads 1` and no GPU visible (`CUDA_VISIBLE_DEVICES=-1`).
"""

import argparse
import fcntl
import itertools
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from benchmarks.modern_models import BATCH_SIZE, NETWORKS, batches, images, make
from benchmarks.modern_report import report
from benchmarks.modern_ways import RULES, WAYS, start

PAIRS = (
    ("mnist", "mlp"),
    ("mnist", "cnn"),
    ("cifar10", "mlp"),
    ("cifar10", "cnn"),
    ("cifar10", "resnet8"),
    ("cifar10", "resnet20"),
)
L2 = (5e-4, 1e-3, 1e-2)
BUDGETS = (15, 60)
SEEDS = (0, 1, 2)
COLUMNS = ("loss", "accuracy", "learning_rate", "fdr_ratio", "fdr_noise_loss")


class PausedError(Exception):
    """The minutes of this call are over."""


def all_runs(examples):
    """Dictionaries that name each run, the seeds in the outermost loop."""
    for seed, epochs, (dataset, network), l2, way in itertools.product(
        SEEDS, BUDGETS, PAIRS, L2, WAYS
    ):
        if way == "adamw" and l2 != L2[0]:
            continue
        yield {
            "dataset": dataset,
            "network": network,
            "l2": 0.0 if way == "adamw" else l2,
            "epochs": epochs,
            "images": examples,
            "way": way,
            "seed": seed,
        }


def name_of(run):
    """The name of a run."""
    return (
        f"{run['dataset']} {run['network']} l2={run['l2']:g} epochs={run['epochs']} "
        f"images={run['images'] or 'all'} {run['way']} seed={run['seed']}"
    )


def is_wanted(name, patterns):
    """Whether all words of one of the patterns are in the name, as whole words."""
    padded = f" {name} "
    return not patterns or any(
        all(f" {word.strip()} " in padded for word in pattern.split(","))
        for pattern in patterns
    )


def read(path):
    """The finished runs, by name."""
    if not path.exists():
        return {}
    rows = map(json.loads, path.read_text().splitlines())
    return {row["name"]: row for row in rows}


def append(path, row):
    """Adds a line to a file that other processes add to as well."""
    line = json.dumps(row, ensure_ascii=False) + "\n"
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


class Columns(keras.callbacks.Callback):
    """Keeps the logs of each epoch, in a file where the run can be cut short."""

    def __init__(self, file, ends_at):
        super().__init__()
        self.rows, self._file, self._ends_at = {}, file, ends_at
        if file and file.exists():
            self.rows = {int(k): v for k, v in json.loads(file.read_text()).items()}

    def on_epoch_end(self, epoch, logs=None):
        """Keeps a row."""
        logs = logs or {}
        self.rows[epoch] = {
            name: float(f"{float(logs[name]):.5g}") for name in COLUMNS if name in logs
        }
        if self._file:
            self._file.write_text(json.dumps(self.rows))


class Clock(keras.callbacks.Callback):
    """Ends the call in time; stands after the backup."""

    def __init__(self, ends_at):
        super().__init__()
        self._ends_at = ends_at

    def on_epoch_end(self, epoch, logs=None):
        """Leaves `fit`."""
        if time.monotonic() > self._ends_at and epoch + 1 < self.params["epochs"]:
            raise PausedError


def train(run, args, ends_at):
    """Does one run, and returns its row."""
    began = time.monotonic()
    keras.backend.clear_session()
    keras.utils.set_random_seed(run["seed"])
    (x, y), held_out, test = images(run["dataset"], run["images"], args.data_dir)
    model = make(run["network"], run["dataset"])
    if run["l2"]:
        for variable in model.trainable_variables:
            # Every optimizer has the same loss. Keras' L2 is without the factor ½.
            variable.regularizer = keras.regularizers.L2(run["l2"] / 2)
    steps = len(x) // BATCH_SIZE
    rate = NETWORKS[run["network"]][1]
    optimizer, callbacks = start(run["way"], rate, run["epochs"], steps)
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=args.jit,
        steps_per_execution=min(steps, 50),
    )
    folder = None
    if args.keep and run["way"] != "plateau":
        folder = args.keep / name_of(run).replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
    columns = Columns(folder and folder / "columns.json", ends_at)
    callbacks.append(columns)
    if folder:
        callbacks.append(
            keras.callbacks.BackupAndRestore(
                folder / "backup", double_checkpoint=True, delete_checkpoint=False
            )
        )
    if folder:
        callbacks.append(Clock(ends_at))
    watched = held_out if run["way"] == "plateau" else None
    model.fit(
        batches(model, x, y, run["seed"], augment=run["dataset"] == "cifar10"),
        shuffle=False,
        epochs=run["epochs"],
        validation_data=watched,
        validation_batch_size=1000,
        verbose=0,
        callbacks=callbacks,
    )

    def measured(data):
        return model.evaluate(*data, batch_size=1000, verbose=0, return_dict=True)

    rows = [columns.rows[epoch] for epoch in sorted(columns.rows)]
    gpus = tf.config.list_physical_devices("GPU")
    return {
        "name": name_of(run),
        **run,
        "test_accuracy": measured(test)["accuracy"],
        "held_out_accuracy": measured(held_out)["accuracy"],
        "epochs_used": len(rows),
        "seconds": round(time.monotonic() - began, 1),
        "device": "GPU" if gpus else "CPU",
        **{name: [row[name] for row in rows if name in row] for name in COLUMNS},
    }


def main():
    """Does the runs that are wanted and missing, or reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", nargs="+", help="patterns: words that a run's name must have, by ','"
    )
    parser.add_argument("--examples", type=int, help="training images; default: all")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--share", default="0/1", help="which part of the runs: i/n")
    parser.add_argument("--threads", type=int, default=0, help="of TensorFlow")
    parser.add_argument("--jit", action="store_true", help="compile steps with XLA")
    parser.add_argument("--keep", type=Path, help="folder for runs that are cut short")
    parser.add_argument("--data-dir", help="folder of tensorflow-datasets")
    parser.add_argument("--list", action="store_true", help="only print the names")
    parser.add_argument("--report", action="store_true", help="only report")
    output = Path(__file__).with_suffix(".jsonl")
    parser.add_argument("--output", type=Path, default=output)
    args = parser.parse_args()
    if args.report:
        print(report(list(read(args.output).values()), args.output))
        return
    ends_at = time.monotonic() + 60 * args.minutes
    tf.get_logger().setLevel("ERROR")
    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    for gpu in tf.config.list_physical_devices("GPU"):
        # Otherwise the first of several processes takes all of its memory.
        tf.config.experimental.set_memory_growth(gpu, True)
    part, parts = map(int, args.share.split("/"))
    wanted = [r for r in all_runs(args.examples) if is_wanted(name_of(r), args.rows)]
    durations = {}
    for run in wanted[part::parts]:
        name = name_of(run)
        if args.list:
            print(name)
            continue
        if name in read(args.output):
            continue
        kind = (run["dataset"], run["network"], run["epochs"])
        # Without a backup a run that does not fit would be lost.
        lasts = 0 if args.keep else durations.get(kind, 0)
        if time.monotonic() + lasts > ends_at:
            print("The minutes of this call are over.")
            return
        try:
            row = train(run, args, ends_at)
        except PausedError:
            print(f"{name}: goes on in the next call.")
            return
        durations[kind] = row["seconds"]
        append(args.output, row)
        print(
            f"{name}: {row['test_accuracy']:.4f} after {row['epochs_used']} epochs, "
            f"{row['seconds']:.0f} s",
            flush=True,
        )


assert set(RULES) <= set(WAYS)

if __name__ == "__main__":
    main()
