"""The paper's four figures for one model, by its protocol: appendix B.

Used by `mnist_mlp.py` and `cifar10_cnn.py`, which hold the models.
"""

import argparse
import csv
import json
import multiprocessing
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf
from data import load

import keras_fdr
from keras_fdr import FDRCallback, Record, landscape, plots

BATCH_SIZE = 100
LEARNING_RATE = 0.1
INITIAL_EPOCHS = 100
# The preset schedule divides the learning rate by 10 after each so many epochs.
PRESET_EPOCHS = 100
MODES = ("paper", "independent")


@dataclass(frozen=True)
class Protocol:
    """What differs between the two models of the paper.

    Args:
        name: Of the files.
        title: Of the pictures.
        dataset: Name for `data.load`.
        normalize: How `data.load` scales the pixels.
        build_model: Function of a momentum, the compiled model.
        momentum: μ in figures 1 to 3; in figure 4 it is 0.
        stages: (η, epochs) of figures 2 and 3 in the order of the paper.
        seeds: How many seeds the paper takes.
        default_scale: Of each figure, for a first look in a few minutes.
        default_seeds: Of figures 2 and 3, for the same.
    """

    name: str
    title: str
    dataset: str
    normalize: str
    build_model: Callable[[float], keras.Model]
    momentum: float
    stages: tuple[tuple[float, int], ...]
    seeds: int
    default_scale: dict[int, float]
    default_seeds: int


def main(protocol, description):
    """Runs what a figure needs and draws it."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figure", type=int, choices=(1, 2, 3, 4), default=1)
    parser.add_argument("--scale", type=float, help="fraction of the paper's epochs")
    parser.add_argument("--seeds", type=int, help="how many")
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="paper",
        help="figures 2 and 3: batches of the shuffled data, or drawn independently",
    )
    parser.add_argument(
        "--full-batch-every",
        type=int,
        default=1,
        help="figures 2 and 3: epochs from one full-batch pass to the next",
    )
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count(), help="to share the seeds"
    )
    parser.add_argument("--data-dir", help="folder of tensorflow-datasets")
    parser.add_argument("--output", type=Path, default=Path("."))
    parser.add_argument(
        "--resume", action="store_true", help="go on with what is in --output"
    )
    args = parser.parse_args()
    args.scale = args.scale or protocol.default_scale[args.figure]
    args.work = args.output / f"{protocol.name}_runs"
    start = time.time()
    if args.figure == 4:
        result = schedules(protocol, args)
    elif args.figure == 1:
        result = initial_run(protocol, args)
    else:
        result = sequential_runs(protocol, args)
    result = {
        "figure": args.figure,
        "scale": args.scale,
        "seconds": round(time.time() - start),
        **versions(),
        **result,
    }
    name = f"{protocol.name}_figure{args.figure}"
    if args.figure in (2, 3):
        name = f"{protocol.name}_{args.mode}"
    path = args.output / f"{name}.json"
    path.write_text(json.dumps(result) + "\n")
    print(f"Wrote {path}")
    draw(protocol, args.figure, args.output)


def versions():
    """What the numbers were made with."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        commit = ""
    return {
        "keras_fdr": keras_fdr.__version__,
        "commit": commit,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
    }


# Figure 1 ----------------------------------------------------------------------


def initial_run(protocol, args):
    """The training that figures 2 and 3 go on from; its record is figure 1."""
    epochs = max(1, round(args.scale * INITIAL_EPOCHS))
    prepare(args.work / "initial", args)
    [record] = run_jobs(train_initial, [(protocol, args, epochs)], 1, epochs)
    return {"learning_rate": LEARNING_RATE, "epochs": epochs, "record": record}


def train_initial(protocol, args, epochs):
    """Trains at η = 0.1; leaves the weights and returns the record as lists."""
    folder = args.work / "initial"
    model, (x, y), _ = model_and_data(protocol, protocol.momentum, args)
    callback = FDRCallback(decay=None)
    model.fit(
        shuffled_by_epoch(model, x, y),
        shuffle=False,
        epochs=epochs,
        verbose=0,
        callbacks=[callback, backup(folder), report_epochs()],
    )
    model.save_weights(folder / "end.weights.h5")
    return as_lists(callback.record)


def as_lists(record):
    """A `Record` for a JSON file."""
    return {
        "sums": [[float(f"{value:.7g}") for value in row] for row in record.sums],
        "steps": record.steps,
        "block_length": record.block_length,
        "learning_rate": record.learning_rate,
    }


# Figures 2 and 3 ---------------------------------------------------------------


def sequential_runs(protocol, args):
    """Each seed through the stages, from the end of the initial run."""
    initial = args.output / f"{protocol.name}_figure1.json"
    if not (args.work / "initial" / "end.weights.h5").exists():
        raise SystemExit(
            "Figures 2 and 3 go on from the end of figure 1: run `--figure 1` with "
            f"this --output first. Received: --output {args.output}"
        )
    seeds = range(args.seeds or protocol.default_seeds)
    stages = [(eta, max(4, round(args.scale * n))) for eta, n in protocol.stages]
    folder = args.work / f"{args.mode}_scale_{args.scale:g}"
    prepare(folder, args)
    jobs = [(protocol, args, stages, seed, folder / f"seed_{seed}") for seed in seeds]
    epochs = len(seeds) * sum(n for _, n in stages)
    run_jobs(train_seed, jobs, args.processes, epochs)
    results = landscape.SweepResults.join(job[-1] for job in jobs)
    print(f"\n{landscape.fit(results)}")
    return {
        "initial_scale": json.loads(initial.read_text())["scale"],
        "settings": results.settings,
        "rows": results.rows,
    }


def train_seed(protocol, args, stages, seed, folder):
    """One seed through all stages."""
    model, train, _ = model_and_data(protocol, protocol.momentum, args)
    model.load_weights(args.work / "initial" / "end.weights.h5", skip_mismatch=False)
    landscape.sweep(
        model,
        train,
        stages,
        seeds=[seed],
        batch_size=BATCH_SIZE,
        mode=args.mode,
        full_batch_every=args.full_batch_every,
        directory=folder,
        verbose=0,
        progress=report,
    )


# Figure 4 ----------------------------------------------------------------------


def schedules(protocol, args):
    """The preset and the adaptive schedule, both without momentum."""
    every = max(1, round(args.scale * PRESET_EPOCHS))
    folder = args.work / "schedules"
    prepare(folder, args)
    names = ("preset", "adaptive")
    jobs = [(protocol, args, name, every, folder / name) for name in names]
    histories = run_jobs(train_schedule, jobs, args.processes, 2 * 4 * every)
    return {"histories": dict(zip(names, histories, strict=True))}


def train_schedule(protocol, args, name, every, folder):
    """Trains four times `every` epochs; returns the history."""
    model, (x, y), test = model_and_data(protocol, 0.0, args)
    everything = tf.data.Dataset.from_tensor_slices((x, y)).batch(5_000)
    if name == "adaptive":
        scheduler = [FDRCallback(threshold=0.01, decay=0.1, full_batch=everything)]
    else:
        scheduler = [
            FDRCallback(decay=None, full_batch=everything),
            keras.callbacks.LearningRateScheduler(
                lambda epoch, _: LEARNING_RATE / 10 ** (epoch // every)
            ),
        ]
    log = folder / "log.csv"
    folder.mkdir(parents=True, exist_ok=True)
    model.fit(
        shuffled_by_epoch(model, x, y),
        shuffle=False,
        epochs=4 * every,
        validation_data=test,
        validation_batch_size=5_000,
        verbose=0,
        callbacks=[
            *scheduler,
            keras.callbacks.CSVLogger(log, append=True),
            backup(folder),
            report_epochs(),
        ],
    )
    with open(log) as file:
        rows = list(csv.DictReader(file))
    return {
        column: [float(f"{float(row[column]):.6g}") for row in rows]
        for column in rows[0]
        if column != "epoch"
    }


# Drawing -----------------------------------------------------------------------


def draw(protocol, figure, folder):
    """Draws a figure from the JSON in a folder, as far as it is there."""
    picture = folder / f"{protocol.name}_figure{figure}.png"

    def kept(name):
        path = folder / f"{protocol.name}_{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def title(run):
        scale = run["scale"]
        epochs = "the paper's epochs" if scale == 1 else f"epochs × {scale:g}"
        return f"{protocol.title}, {epochs}"

    if figure == 1:
        run = kept("figure1")
        plots.equilibration(Record(**run["record"]), picture, title(run))
    elif figure == 4:
        run = kept("figure4")
        plots.schedule(run["histories"], picture, f"{title(run)}, without momentum")
    else:
        runs = {mode: run for mode in MODES if (run := kept(mode))}
        tables = {
            f"{mode}, {title(run).split(', ')[-1]}": landscape.SweepResults(
                run["settings"], run["rows"]
            )
            for mode, run in runs.items()
        }
        first = next(iter(runs.values()))
        picture2 = folder / f"{protocol.name}_figure2.png"
        picture = folder / f"{protocol.name}_figure3.png"
        plots.sequential_runs(
            next(iter(tables.values())), path=picture2, title=title(first)
        )
        print(f"Wrote {picture2}")
        plots.landscape(tables, picture, protocol.title)
    print(f"Wrote {picture}")


# Running -----------------------------------------------------------------------


def model_and_data(protocol, momentum, args):
    """The compiled model with the weights of seed 0, training and test set."""
    keras.utils.set_random_seed(0)
    model = protocol.build_model(momentum)
    train, test = load(protocol.dataset, args.data_dir, protocol.normalize)
    return model, train, test


def shuffled_by_epoch(model, x, y, seed=0):
    """Batches in an order that depends on seed and epoch only.

    So that a run that was stopped goes on exactly. What does not fill a batch is left
    out (nothing for 60,000 and 50,000 examples).
    """
    steps = len(x) // BATCH_SIZE
    x, y = tf.constant(x), tf.constant(y)
    iterations = model.optimizer.iterations.value

    def order(_):
        epoch = tf.cast(iterations // steps, tf.int32)
        indices = tf.random.experimental.stateless_shuffle(
            tf.range(len(x)), seed=tf.stack([seed, epoch])
        )
        return tf.data.Dataset.from_tensor_slices(indices)

    batches = tf.data.Dataset.range(1).flat_map(order)
    batches = batches.batch(BATCH_SIZE, drop_remainder=True)
    batches = batches.map(lambda i: (tf.gather(x, i), tf.gather(y, i)))
    return batches.prefetch(2).apply(tf.data.experimental.assert_cardinality(steps))


def backup(folder):
    """Lets a run that was stopped go on at its last epoch."""
    return keras.callbacks.BackupAndRestore(
        folder / "backup", double_checkpoint=True, delete_checkpoint=False
    )


def prepare(folder, args):
    """Makes a folder; one with runs in it is touched with `--resume` only."""
    if folder.exists() and not args.resume:
        raise SystemExit(
            "A folder with runs in it is gone on with only with --resume; or take "
            f"another --output. Received: {folder}"
        )
    folder.mkdir(parents=True, exist_ok=True)


def run_jobs(function, jobs, processes, epochs):
    """Calls `function(*job)` for all jobs in processes of their own.

    With one thread each, as many as there are cores do more steps a second than one
    that shares each step between the cores.

    Args:
        function: Of this module; it calls `report`.
        jobs: List of tuples.
        processes: How many at once.
        epochs: Number that all jobs report together.

    Returns:
        List of what the function returned.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    processes = min(processes, len(jobs))
    bar = keras.utils.Progbar(epochs, unit_name="epoch")
    done = 0
    with context.Pool(processes, _begin, (queue, processes > 1)) as pool:
        results = pool.starmap_async(function, jobs, chunksize=1)
        while not results.ready():
            results.wait(1)
            while not queue.empty():
                done += queue.get()
                bar.update(done)
        return results.get()


_queue = None


def _begin(queue, one_thread):
    global _queue
    _queue = queue
    if one_thread:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def report(epochs):
    """Tells the process that waits that so many epochs are done."""
    _queue.put(epochs)


def report_epochs():
    """A callback that reports the epochs of `fit`."""
    return keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: report(1))
