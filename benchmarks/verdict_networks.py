"""When do the rules call real networks stationary? Truth: long reference runs.

    python benchmarks/verdict_networks.py [--networks digits mnist] [--data-dir DIR]

Networks on digits and MNIST train at a constant learning rate from their
initialisation, batches reshuffled each epoch as in `fit`. Every rule looks at the
record at the end of each epoch; the epoch of its first "stationary" would be the cut.
The truth is the ensemble mean of the full-batch loss f: t* is the first epoch from
which it stays within 5% of its stationary value, the mean over the last half of all
runs. Seeds are 1000 and up; none was used to choose a rule's defaults. Writes JSON.
"""

import argparse
import json
import platform
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_fdr
from keras_fdr import FDRSGD, ConfidenceRule, DriftRule, FullBatchPass, ThresholdRule
from keras_fdr.loop import CompiledLoop, shuffled_batches

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from data import load

RULES = {
    "paper": ThresholdRule,
    "sasa": lambda: ConfidenceRule("sasa"),
    "sasa+": lambda: ConfidenceRule("sasa+"),
    "drift": DriftRule,
}
# dataset, hidden layers, |B|, η, μ, λ, epochs, runs.
SETTINGS = {
    "digits": ("digits", [32], 32, 0.1, 0.0, 0.02, 250, 24),
    "digits, momentum 0.9": ("digits", [32], 32, 0.01, 0.9, 0.02, 250, 24),
    "mnist": ("mnist", [200, 200], 100, 0.1, 0.0, 0.01, 60, 8),
}
# The full-batch loss is measured on so many of the runs.
MEASURED = 8


def run_all(setting, data_dir):
    """The cut of each rule in each run, and f at the end of each epoch."""
    dataset, hidden, batch_size, eta, mu, l2, epochs, runs = setting
    (x, y), _ = load(dataset, data_dir)
    dense = keras.layers.Dense
    layers = [dense(units, activation="relu") for units in hidden]
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            keras.layers.Flatten(),
            *layers,
            dense(10, activation="softmax"),
        ]
    )
    optimizer = FDRSGD(eta, mu, l2=l2)
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, jit_compile=True)
    full_batch = FullBatchPass(model, (x, y))
    optimizer.build(model.trainable_variables)
    loop = CompiledLoop(model, (x, y))
    cuts = {name: np.full(runs, np.nan) for name in RULES}
    losses = np.full((min(runs, MEASURED), epochs), np.nan)
    for run in range(runs):
        keras.utils.set_random_seed(1000 + run)
        for layer in model.layers:
            if hasattr(layer, "kernel"):
                layer.kernel.assign(
                    keras.initializers.GlorotNormal()(layer.kernel.shape)
                )
                layer.bias.assign(tf.zeros_like(layer.bias))
        optimizer.reset_velocities()
        rules = {name: make() for name, make in RULES.items()}
        for epoch in range(epochs):
            rng = np.random.default_rng([1000 + run, epoch])
            loop.run(shuffled_batches(rng, loop.examples, batch_size))
            record = optimizer.observables.record()
            for name in list(rules):
                if rules[name](record).stationary:
                    cuts[name][run] = epoch + 1
                    del rules[name]
            if run < MEASURED:
                losses[run, epoch] = full_batch().loss
    return cuts, losses


def summarise(cuts, losses):
    """t*, and what each rule did about it."""
    mean = losses.mean(axis=0)
    stationary = mean[len(mean) // 2 :].mean()
    outside = np.flatnonzero(np.abs(mean / stationary - 1) > 0.05)
    t_star = int(outside[-1]) + 2 if len(outside) else 1
    rows = []
    for name, at in cuts.items():
        fired = at[np.isfinite(at)]
        rows.append(
            {
                "rule": name,
                "false_alarms": int(np.sum(fired < t_star)),
                "never": int(np.isnan(at).sum()),
                "runs": len(at),
                "delay_epochs_quartiles": [
                    float(q) for q in np.quantile(fired - t_star, [0.25, 0.5, 0.75])
                ]
                if len(fired)
                else None,
                "loss_at_cut": float(
                    np.median(mean[fired.astype(int) - 1] / stationary)
                )
                if len(fired)
                else None,
            }
        )
    return {"t_star_epochs": t_star, "stationary_loss": float(stationary), "rows": rows}


def main():
    """Runs the networks asked for and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=SETTINGS, default=SETTINGS)
    parser.add_argument("--data-dir", help="folder of tensorflow-datasets")
    default = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=default)
    args = parser.parse_args()

    result = {
        "versions": {
            "keras_fdr": keras_fdr.__version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "python": platform.python_version(),
        },
        "networks": {},
    }
    for name in args.networks:
        result["networks"][name] = summarise(*run_all(SETTINGS[name], args.data_dir))
        print(name, json.dumps(result["networks"][name], indent=1))
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
