"""The training behind the paper's four figures, by the protocol of appendix B."""

import csv
import math

import keras
import tensorflow as tf
from data import load
from jobs import prepare, report, run_jobs
from protocol import BATCH_SIZE

from keras_fdr import FDRSGD, FDRCallback, landscape, shuffled_batches

LEARNING_RATE = 0.1
STEPS_PER_EXECUTION = 100
INITIAL_EPOCHS = 100
# The preset schedule divides the learning rate by 10 whenever this many epochs ended.
PRESET_EPOCHS = 100
# With fewer epochs, the newest half of a stage would lack a second full-batch pass.
LEAST_EPOCHS = 3
L2 = 0.01

# Figure 1 ----------------------------------------------------------------------


def initial_run(protocol, args):
    """Trains the run whose record is figure 1. Figures 2 and 3 start at its end."""
    epochs = max(1, round(args.scale * INITIAL_EPOCHS))
    folder = args.work / "initial"
    prepare(folder, args.resume, epochs=epochs, examples=args.examples)
    [record] = run_jobs(train_initial, [(protocol, args, epochs)], 1, epochs)
    return {"learning_rate": LEARNING_RATE, "epochs": epochs, "record": record}


def train_initial(protocol, args, epochs):
    """Trains at the learning rate 0.1, saves the weights and returns the record."""
    folder = args.work / "initial"
    model, (x, y), _ = model_and_data(protocol, protocol.momentum, args)
    model.fit(
        shuffled_batches(x, y, BATCH_SIZE, seed=0),
        shuffle=False,
        epochs=epochs,
        verbose=0,
        callbacks=[FDRCallback(factor=None), backup(folder), ReportEpochs()],
    )
    model.save_weights(folder / "end.weights.h5")
    record = model.optimizer.observables.record()
    return {
        "sums": [[float(f"{value:.7g}") for value in row] for row in record.sums],
        "steps": record.steps,
        "block_length": record.block_length,
        "learning_rate": record.learning_rate,
    }


# Figures 2 and 3 ---------------------------------------------------------------


def sequential_runs(protocol, args):
    """Takes each seed through the stages, from the end of the initial run."""
    stages = [
        (eta, max(LEAST_EPOCHS, round(args.scale * n)))
        for eta, n in protocol.stages
        if eta >= args.smallest_rate
    ]
    part = f"_examples_{args.examples}" if args.examples else ""
    folder = args.work / f"{args.mode}_scale_{args.scale:g}{part}"
    every = args.full_batch_every
    prepare(folder, args.resume, stages=[list(s) for s in stages], every=every)
    jobs = [
        (protocol, args, stages, seed, folder / f"seed_{seed}")
        for seed in range(args.seeds)
    ]
    run_jobs(train_seed, jobs, args.processes, args.seeds * sum(n for _, n in stages))
    results = landscape.SweepResults.join(job[-1] for job in jobs)
    return {
        "settings": results.settings,
        "rows": [row.to_dict() for row in results.rows],
    }


def train_seed(protocol, args, stages, seed, folder):
    """Takes one seed through all stages."""
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
        # New epochs are reported one by one. Epochs of an earlier call are reported a
        # stage at a time.
        progress=lambda epochs: report(epochs, earlier=epochs > 1),
    )


# Figure 4 ----------------------------------------------------------------------


def schedules(protocol, args):
    """Trains with the preset and the adaptive schedule, both without momentum."""
    every = max(1, round(args.scale * PRESET_EPOCHS))
    folder = args.work / "schedules"
    prepare(folder, args.resume, epochs=4 * every, examples=args.examples)
    names = ("preset", "adaptive")
    jobs = [(protocol, args, name, every, folder / name) for name in names]
    histories = run_jobs(train_schedule, jobs, args.processes, 2 * 4 * every)
    return {"histories": dict(zip(names, histories, strict=True))}


def train_schedule(protocol, args, name, every, folder):
    """Trains four times `every` epochs and returns the history."""
    model, (x, y), test = model_and_data(protocol, 0.0, args)
    full_batch = {
        "full_batch": tf.data.Dataset.from_tensor_slices((x, y)).batch(5_000),
        "full_batch_every": args.full_batch_every,
    }
    if name == "adaptive":
        scheduler = [FDRCallback(threshold=0.01, factor=0.9, **full_batch)]
    else:
        scheduler = [
            FDRCallback(factor=None, **full_batch),
            keras.callbacks.LearningRateScheduler(
                lambda epoch, _: LEARNING_RATE / 10 ** (epoch // every)
            ),
        ]
    log = folder / "log.csv"
    folder.mkdir(parents=True, exist_ok=True)
    model.fit(
        shuffled_batches(x, y, BATCH_SIZE, seed=0),
        shuffle=False,
        epochs=4 * every,
        validation_data=test,
        validation_batch_size=5_000,
        verbose=0,
        callbacks=[
            *scheduler,
            keras.callbacks.CSVLogger(log, append=True),
            backup(folder),
            ReportEpochs(),
        ],
    )
    return read_log(log)


def read_log(path):
    """Reads the columns of a `CSVLogger`.

    If a run was killed between the log and the backup, the file has an epoch twice. Its
    last row counts. A value that is not a number becomes `None`. Epochs without a
    full-batch pass have such values.
    """
    with open(path) as file:
        rows = {int(row["epoch"]): row for row in csv.DictReader(file)}
    columns = {
        name: [float(f"{float(rows[epoch][name]):.6g}") for epoch in sorted(rows)]
        for name in rows[0]
        if name != "epoch"
    }
    return {
        name: [value if math.isfinite(value) else None for value in values]
        for name, values in columns.items()
    }


# Models and data ---------------------------------------------------------------


def model_and_data(protocol, momentum, args):
    """Returns the compiled model with the weights of seed 0, and the data."""
    keras.utils.set_random_seed(0)
    model = compiled(protocol.network(), momentum)
    (x, y), test = load(protocol.dataset, args.data_dir, protocol.normalize)
    return model, (x[: args.examples], y[: args.examples]), test


def compiled(model, momentum):
    """Compiles a model for the paper's SGD and returns it."""
    model.compile(
        optimizer=FDRSGD(LEARNING_RATE, momentum=momentum, l2=L2),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=STEPS_PER_EXECUTION,
    )
    return model


def backup(folder):
    """Returns the callback with which a stopped run resumes at its last epoch."""
    return keras.callbacks.BackupAndRestore(
        folder / "backup", double_checkpoint=True, delete_checkpoint=False
    )


class ReportEpochs(keras.callbacks.Callback):
    """Reports the epochs of `fit`. It must be listed after `backup`."""

    def on_train_begin(self, logs=None):
        """Reports the epochs that an earlier call trained."""
        steps = int(self.model.optimizer.iterations)
        report(steps // self.params["steps"], earlier=True)

    def on_epoch_end(self, epoch, logs=None):
        """Reports one more epoch."""
        report(1)
