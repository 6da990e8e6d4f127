"""When do the rules call real networks stationary? Truth: long reference runs.

    python -m benchmarks.verdict_networks [--networks digits mnist] [--data-dir DIR]
                                          [--seed N] [--keep DIR] [--output FILE]

Networks on digits and MNIST train at a constant learning rate from their
initialisation, batches reshuffled each epoch as in `fit`. Every rule looks at the
record at the end of each epoch; the epoch of its first "stationary" would be the cut.
The truth is the ensemble mean of the full-batch loss f: t* is the first epoch from
which it stays within 5% of its stationary value, the mean over the last half of all
runs. Seeds of the kept results are 1000 and up; none was used to choose a rule's
defaults.

`--keep` stores the rows of every step of every run there, and reads those that it
finds: rules can then be changed without training again. Writes JSON.
"""

import argparse
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.kept import keep, load
from benchmarks.recorder import CAPACITY, shortened
from benchmarks.verdicts import RULES, find_rules, wilson
from keras_fdr import FDRSGD, FDRObservables, FullBatchPass
from keras_fdr.batches import reshuffled_order, whole_batches
from keras_fdr.landscape.compiled_loop import CompiledLoop

# dataset, hidden layers, |B|, η, μ, λ, epochs, runs.
SETTINGS = {
    "digits": ("digits", [32], 32, 0.1, 0.0, 0.02, 300, 24),
    "digits, momentum 0.9": ("digits", [32], 32, 0.01, 0.9, 0.02, 300, 24),
    "mnist": ("mnist", [200, 200], 100, 0.1, 0.0, 0.01, 60, 8),
}
# The full-batch loss is measured on so many of the runs.
MEASURED = 8


def build(setting, data_dir):
    """A model of the paper's kind, its data, and the steps of an epoch."""
    dataset, hidden, batch_size, eta, mu, l2, epochs, _ = setting
    (x, y), _ = load(dataset, data_dir)
    steps = len(x) // batch_size
    dense = keras.layers.Dense
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            keras.layers.Flatten(),
            *(dense(units, activation="relu") for units in hidden),
            dense(10, activation="softmax"),
        ]
    )
    # Every step's row is kept; `shortened` makes the record that a user would have.
    every_step = FDRObservables(capacity=steps * epochs + steps * epochs % 2)
    optimizer = FDRSGD(eta, mu, l2=l2, observables=every_step)
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, jit_compile=True)
    optimizer.build(model.trainable_variables)
    return model, (x, y), steps


def train(setting, data_dir, seed):
    """The rows of every step and run, and f at the end of each epoch.

    Returns:
        Float arrays of shapes `(runs, steps, 5)` and `(measured, epochs)`.
    """
    _, _, batch_size, _, _, _, epochs, runs = setting
    model, data, _ = build(setting, data_dir)
    optimizer = model.optimizer
    full_batch, loop = FullBatchPass(model, data), CompiledLoop(model, data)
    rows, losses = [], np.full((min(runs, MEASURED), epochs), np.nan)
    for run in range(runs):
        keras.utils.set_random_seed(seed + run)
        for layer in model.layers:
            if hasattr(layer, "kernel"):
                layer.kernel.assign(
                    keras.initializers.GlorotNormal()(layer.kernel.shape)
                )
                layer.bias.assign(tf.zeros_like(layer.bias))
        optimizer.reset_velocities()
        optimizer.observables.reset()
        for epoch in range(epochs):
            rng = np.random.default_rng([seed + run, epoch])
            order = reshuffled_order(rng, loop.examples)
            loop.run(whole_batches(order, batch_size))
            if run < MEASURED:
                losses[run, epoch] = full_batch().loss
        rows.append(optimizer.observables.record().sums)
    return np.array(rows), losses


def first_cuts(rows, epochs, rules):
    """Epoch of each run's first "stationary" by each rule, NaN where there is none."""
    cuts = {name: np.full(len(rows), np.nan) for name in rules}
    steps = rows.shape[1] // epochs
    for run in range(len(rows)):
        for epoch in range(1, epochs + 1):
            record = shortened(rows[run, : epoch * steps])
            for name, rule in rules.items():
                if np.isnan(cuts[name][run]) and rule(record).stationary:
                    cuts[name][run] = epoch
    return cuts


def summarise(cuts, losses):
    """t*, and what each rule did about it."""
    mean = losses.mean(axis=0)
    stationary = mean[len(mean) // 2 :].mean()
    outside = np.flatnonzero(np.abs(mean / stationary - 1) > 0.05)
    t_star = int(outside[-1]) + 2 if len(outside) else 1
    rows = []
    for name, at in cuts.items():
        fired = at[np.isfinite(at)]
        early = int(np.sum(fired < t_star))
        row = {
            "rule": name,
            "runs": len(at),
            "false_alarms": early,
            "false_alarms_95": wilson(early, len(at)),
            "never": int(np.isnan(at).sum()),
            "delay_epochs_quartiles": None,
            "loss_at_cut": None,
        }
        if len(fired):
            delays = np.quantile(fired - t_star, [0.25, 0.5, 0.75])
            row["delay_epochs_quartiles"] = [float(q) for q in delays]
            at_cut = np.median(mean[fired.astype(int) - 1] / stationary)
            row["loss_at_cut"] = float(at_cut)
        rows.append(row)
    return {
        "epochs": len(mean),
        "t_star_epochs": t_star,
        "stationary_loss": float(stationary),
        "rows": rows,
    }


def runs_of(name, args):
    """Trains, or reads what an earlier call kept."""
    file = args.keep / f"{name}, seed {args.seed}.npz" if args.keep else None
    if file and file.exists():
        with np.load(file) as kept:
            return kept["rows"], kept["losses"]
    rows, losses = train(SETTINGS[name], args.data_dir, args.seed)
    if file:
        args.keep.mkdir(parents=True, exist_ok=True)
        np.savez(file, rows=rows, losses=losses)
    return rows, losses


def main():
    """Runs the networks asked for and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=SETTINGS, default=SETTINGS)
    parser.add_argument("--data-dir", help="folder of tensorflow-datasets")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--keep", type=Path, help="folder for the rows of the runs")
    default = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=default)
    args = parser.parse_args()

    result = {
        "what": "epochs at which the rules call networks stationary",
        "settings": {
            "seed": args.seed,
            "loss_tolerance": 0.05,
            "capacity": CAPACITY,
            "loss_measured_on_runs": MEASURED,
            "networks": {name: SETTINGS[name] for name in args.networks},
        },
        "rules": RULES,
        "networks": {},
    }
    for name in args.networks:
        rows, losses = runs_of(name, args)
        cuts = first_cuts(rows, losses.shape[1], find_rules(RULES))
        result["networks"][name] = summarise(cuts, losses)
        print(name, json.dumps(result["networks"][name], indent=1))
        keep(args.output, result)


if __name__ == "__main__":
    main()
