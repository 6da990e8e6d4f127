"""What FDR1 says of other optimizers than `FDRSGD`, and with which memory β.

    python benchmarks/any_optimizer.py [--networks digits mnist] [--seeds N ...]
                                       [--data-dir DIR] [--output FILE]

Networks on digits and on 10,000 images of MNIST train from their initialisation,
batches reshuffled each epoch, with the optimizers of Keras that `measure` attaches to,
and with `FDRSGD`: once at a constant learning rate and once under a cosine schedule.
All but AdamW have an L2 term in the loss; AdamW has its decoupled decay.

The rows are measured at β = 0, where they are −θ·Δ and ½|Δ|². Those at the optimizer's
own β follow from them exactly, so that both judge the same run. Each rule looks at the
record at the end of each epoch until it first says "stationary".

The truth t* is the first epoch from which the mean training loss of an epoch, averaged
over the seeds, stays within 5% of its mean over the last half of the run. It is stated
at a constant rate only. Writes JSON and prints a table.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from kept import keep, load
from recorder import shortened
from verdicts import RULES, find_rules

from keras_fdr import FDRSGD, FDRObservables, Record, ThresholdRule, measure
from keras_fdr.landscape.compiled_loop import CompiledLoop, shuffled_batches
from keras_fdr.measured import memory_of

# hidden layers, examples, |B|, epochs, λ (loss + ½λ|θ|²).
NETWORKS = {
    "digits": ([32], 1437, 32, 120, 0.02),
    "mnist": ([200, 200], 10_000, 100, 40, 0.01),
}
sgd = keras.optimizers.SGD
adam, adamw = keras.optimizers.Adam, keras.optimizers.AdamW
# The optimizer and its arguments. AdamW's decay relaxes |θ|² in 1/(2 η decay) steps:
# 1,000 with the first decay, and 62,500 with the default of Keras.
OPTIMIZERS = {
    "FDRSGD momentum": (FDRSGD, 0.01, {"momentum": 0.9}),
    "SGD momentum": (sgd, 0.01, {"momentum": 0.9}),
    "SGD Nesterov": (sgd, 0.01, {"momentum": 0.9, "nesterov": True}),
    "Adam": (adam, 0.002, {}),
    "AdamW decay 0.25": (adamw, 0.002, {"weight_decay": 0.25}),
    "AdamW decay 0.004": (adamw, 0.002, {"weight_decay": 0.004}),
}
CAPACITY = 1024


def build(network, optimizer, schedule, data_dir):
    """The compiled model, its data, and the steps of an epoch."""
    hidden, examples, batch_size, epochs, l2 = NETWORKS[network]
    (x, y), _ = load(network, data_dir)
    x, y = x[:examples].reshape(examples, -1), y[:examples]
    steps = examples // batch_size
    make, rate, arguments = OPTIMIZERS[optimizer]
    if schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps * epochs)
    every_step = steps * epochs + steps * epochs % 2
    if make is FDRSGD:
        arguments = {**arguments, "observables": FDRObservables(capacity=every_step)}
    decay = None if make is adamw else keras.regularizers.L2(l2 / 2)

    def dense(units, activation):
        return keras.layers.Dense(
            units, activation, kernel_regularizer=decay, bias_regularizer=decay
        )

    layers = [dense(units, "relu") for units in hidden]
    model = keras.Sequential([keras.Input(x.shape[1:]), *layers, dense(10, "softmax")])
    loss = "sparse_categorical_crossentropy"
    model.compile(make(rate, **arguments), loss, jit_compile=True)
    model.optimizer.build(model.trainable_variables)
    if make is not FDRSGD:
        measure(model, beta=0.0, capacity=every_step)
    return model, (x, y), steps


def restart(model):
    """New weights, and an optimizer at its first step."""
    for layer in model.layers:
        kernel = keras.initializers.GlorotNormal()(layer.kernel.shape)
        layer.kernel.assign(kernel)
        layer.bias.assign(tf.zeros_like(layer.bias))
    optimizer = model.optimizer
    rate = optimizer.get_config()["learning_rate"]
    for variable in optimizer.variables:
        if isinstance(rate, dict) or variable is not optimizer.learning_rate:
            variable.assign(tf.zeros_like(variable))
    optimizer.observables.reset()
    if not isinstance(optimizer, FDRSGD):
        optimizer.observables.memory.assign([0.0] * len(model.trainable_variables))


def with_memory(rows, beta):
    """Rows at β from rows at 0, which hold −θ(t)·Δ(t) and ½|Δ(t)|², over η₀."""
    a, b = -rows[:, 0], 2 * rows[:, 1]
    remembered = np.concatenate([[0.0], (a + b)[:-1]])  # θ(t)·Δ(t−1)
    result = rows.copy()
    result[:, 0], result[:, 1] = beta * remembered - a, (1 + beta) / 2 * b
    return result


def record_of(rows, rates):
    """The record that a user would have of these steps."""
    record = shortened(rows, CAPACITY)
    starts = np.arange(0, record.steps, record.block_length)
    counts = np.diff([*starts, record.steps])
    means = np.add.reduceat(rates, starts) / counts
    changing = np.ptp(rates) > 0
    return Record(
        record.sums,
        record.steps,
        record.block_length,
        learning_rate=float(rates[0]),
        learning_rates=means if changing else None,
    )


def first_looks(rows, rates, steps, rules):
    """The epoch of each rule's first "stationary", `None` where there is none."""
    fired = dict.fromkeys(rules)
    for epoch in range(1, len(rows) // steps + 1):
        waiting = [name for name in rules if fired[name] is None]
        if not waiting:
            break
        record = record_of(rows[: epoch * steps], rates[: epoch * steps])
        for name in waiting:
            if rules[name](record).stationary:
                fired[name] = epoch
    return fired


def looks(rows, rates, steps):
    """What the record says at half of the run and at its end, and the first cuts."""
    result = {"first_stationary_epoch": first_looks(rows, rates, steps, RULES_USED)}
    for name, part in (("half", len(rows) // 2), ("end", len(rows))):
        verdict = ThresholdRule(0.01)(record_of(rows[:part], rates[:part]))
        result[f"ratio_{name}"] = round(verdict.ratio, 5)
        result[f"ratio_error_{name}"] = round(verdict.ratio_error, 6)
    return result


def run(network, optimizer, schedule, args):
    """All seeds of one setting, at both β."""
    _, _, batch_size, epochs, _ = NETWORKS[network]
    model, data, steps = build(network, optimizer, schedule, args.data_dir)
    loop = CompiledLoop(model, data)
    total = np.arange(steps * epochs)
    rate = OPTIMIZERS[optimizer][1]
    rates = np.full(len(total), rate)
    if schedule == "cosine":
        rates = rate * (1 + np.cos(np.pi * total / len(total))) / 2
    seeds, losses = [], []
    for seed in args.seeds:
        keras.utils.set_random_seed(seed)
        restart(model)
        for epoch in range(epochs):
            rng = np.random.default_rng([seed, epoch])
            loop.run(shuffled_batches(rng, loop.examples, batch_size))
        rows = model.optimizer.observables.record().sums
        losses.append(rows[:, 4].reshape(epochs, steps).mean(axis=1))
        betas = {"own": rows}
        if not isinstance(model.optimizer, FDRSGD):
            own = memory_of(model.optimizer)
            betas = {"0": rows, "own": with_memory(rows, own)}
        found = {beta: looks(each, rates, steps) for beta, each in betas.items()}
        seeds.append({"seed": seed, "beta": found})
    mean = np.mean(losses, axis=0)
    settled = mean[len(mean) // 2 :].mean()
    outside = np.flatnonzero(np.abs(mean / settled - 1) > 0.05)
    t_star = int(outside[-1]) + 2 if len(outside) else 1
    constant = schedule == "constant"
    return {
        "network": network,
        "optimizer": optimizer,
        "schedule": schedule,
        "epochs": epochs,
        "steps_per_epoch": steps,
        "t_star_epochs": t_star if constant and t_star <= epochs else None,
        "epoch_loss": np.round(mean, 4).tolist(),
        "seeds": seeds,
    }


def table(rows):
    """The rows as a Markdown table, medians over the seeds."""
    head = "network|optimizer|rate|β|t*|ratio|noise floor|" + "|".join(RULES_USED)
    lines = [f"|{head}|", "|" + "---|" * (7 + len(RULES_USED))]
    for row in rows:
        for beta in row["seeds"][0]["beta"]:
            found = [seed["beta"][beta] for seed in row["seeds"]]
            ratios = ", ".join(f"{each['ratio_end']:.3f}" for each in found)
            floor = np.median([each["ratio_error_end"] for each in found])
            cuts = [
                ", ".join(
                    str(each["first_stationary_epoch"][rule] or "—") for each in found
                )
                for rule in RULES_USED
            ]
            cells = [row["network"], row["optimizer"], row["schedule"], beta]
            cells += [str(row["t_star_epochs"] or "—"), ratios, f"{floor:.4f}", *cuts]
            lines.append("|" + "|".join(cells) + "|")
    return "\n".join(lines)


RULES_USED = find_rules(RULES)


def main():
    """Runs what is asked for and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1000, 1001, 1002])
    parser.add_argument("--data-dir", default=os.environ.get("TFDS_DATA_DIR"))
    default = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=default)
    args = parser.parse_args()
    result = {
        "what": "FDR1 of other optimizers, at β = 0 and at their own β",
        "settings": {
            "capacity": CAPACITY,
            "loss_tolerance": 0.05,
            "networks": NETWORKS,
            "optimizers": {
                name: [make.__name__, rate, arguments]
                for name, (make, rate, arguments) in OPTIMIZERS.items()
            },
        },
        "rules": RULES,
        "rows": [],
    }
    for network in args.networks:
        for schedule in ("constant", "cosine"):
            for optimizer in OPTIMIZERS:
                start = time.monotonic()
                row = run(network, optimizer, schedule, args)
                result["rows"].append(row)
                print(table([row]), f"{time.monotonic() - start:.0f} s", flush=True)
                keep(args.output, result)
    print(table(result["rows"]))


if __name__ == "__main__":
    main()
