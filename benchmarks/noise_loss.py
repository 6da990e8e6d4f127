"""Is `fdr_noise_loss` what a decay of the learning rate earns?

    python benchmarks/noise_loss.py [--networks WORD ...] [--data-dir DIR] [--minutes N]

A network trains at a constant rate η. After some epochs it is annealed: the rate falls
linearly to nearly 0 over `ANNEAL` epochs and rests there for one more. The drop of the
training loss, mean of f^B with its L2 term over an epoch, is compared with O_R/2 of the
newest half of the record (`fdr_noise_loss`) before the anneal. A twin that trains on at
η for as many epochs shows how much of the drop is not the noise's: `twin_drop`. The
weights go back to where they were before the anneal, and training goes on to the next
one. Loss and gradient are those of training: batch normalisation with the statistics of
the batch.

Every network is kept in the JSON as soon as it is done; what is there is not done
again.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from modern_models import BATCH_SIZE, batches, images, make

from benchmarks.kept import keep, load
from keras_fdr import FDRSGD
from keras_fdr.snapshot import State

ANNEAL = 3
# dataset, network, images, η, μ, λ, epochs before each anneal.
SETTINGS = {
    "digits mlp": ("digits", "mlp", None, 0.1, 0.0, 1e-2, (5, 20, 80)),
    "digits mlp, momentum": ("digits", "mlp", None, 0.02, 0.9, 1e-2, (5, 20, 80)),
    "digits mlp, small decay": ("digits", "mlp", None, 0.02, 0.9, 5e-4, (5, 20, 80)),
    "mnist mlp, 0.01": ("mnist", "mlp", 10_000, 0.05, 0.9, 1e-2, (3, 10, 30)),
    "mnist mlp, 0.001": ("mnist", "mlp", 10_000, 0.05, 0.9, 1e-3, (3, 10, 30)),
    "mnist mlp, 0.0005": ("mnist", "mlp", 10_000, 0.05, 0.9, 5e-4, (3, 10, 30)),
    "mnist mlp, no momentum": ("mnist", "mlp", 10_000, 0.2, 0.0, 1e-3, (3, 10, 30)),
    "mnist cnn, 0.01": ("mnist", "cnn", 5_000, 0.1, 0.9, 1e-2, (3, 10)),
    "mnist cnn, 0.0005": ("mnist", "cnn", 5_000, 0.1, 0.9, 5e-4, (3, 10)),
    "cifar10 mlp, 0.001": ("cifar10", "mlp", 10_000, 0.05, 0.9, 1e-3, (3, 10, 30)),
    "cifar10 cnn, 0.001": ("cifar10", "cnn", 5_000, 0.1, 0.9, 1e-3, (3, 10)),
    "cifar10 resnet8, 0.0005": ("cifar10", "resnet8", 5_000, 0.1, 0.9, 5e-4, (3, 10)),
}


class Runner:
    """One network, trained an epoch at a time."""

    def __init__(self, setting, data_dir, seed):
        dataset, network, count, self.rate, momentum, l2, _ = setting
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        x, y = digits() if dataset == "digits" else images(dataset, count, data_dir)[0]
        self.model = make(network, dataset)
        self.optimizer = FDRSGD(self.rate, momentum, l2=l2)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(self.optimizer, loss, steps_per_execution=4)
        self.optimizer.build(self.model.trainable_variables)
        self.data = batches(self.model, x, y, seed, augment=dataset == "cifar10")
        self.steps = len(x) // BATCH_SIZE

    def epoch(self, rate):
        """Trains; returns the mean loss of the epoch, and O_R/2 of the record."""
        record = self.optimizer.observables.record()
        if record.steps and np.float32(rate) != np.float32(record.learning_rate):
            self.optimizer.observables.reset()
        self.optimizer.learning_rate = rate
        before = self.optimizer.observables.record()
        self.model.fit(self.data, shuffle=False, verbose=0)
        record = self.optimizer.observables.record()
        loss = record.names.index("loss")
        total = record.sums[:, loss].sum() - before.sums[:, loss].sum()
        loss = total / (record.steps - before.steps)
        noise = record.half_running_average("fluctuation") / 2
        return float(loss), float(noise), float(record.ratio)

    def branch(self, rates):
        """The loss of the last of some epochs; the state is put back."""
        model = self.model
        kept = [*model.variables, *kept_variables(self.optimizer)]
        state = State(kept, model.distribute_strategy)
        losses = [self.epoch(rate)[0] for rate in rates]
        state.restore()
        return losses[-1]


def kept_variables(optimizer):
    """Those of the optimizer and of its record."""
    return [*optimizer.variables, *optimizer.observables.variables]


def digits():
    """The training images of scikit-learn's digits."""
    return load("digits")[0]


def measure(setting, data_dir, seed=0):
    """The rows of one network."""
    runner, rows, done = Runner(setting, data_dir, seed), [], 0
    eta = runner.rate
    down = [eta * (1 - (i + 0.5) / ANNEAL) for i in range(ANNEAL)]
    for epochs in setting[-1]:
        while done < epochs:
            loss, noise, ratio = runner.epoch(eta)
            done += 1
        annealed = runner.branch([*down, 1e-5 * eta])
        twin = runner.branch([eta] * (ANNEAL + 1))
        rows.append(
            {
                "epochs": done,
                "steps": done * runner.steps,
                "ratio": round(ratio, 4),
                "loss": round(loss, 5),
                "noise_loss": round(noise, 5),
                "drop": round(loss - annealed, 5),
                "twin_drop": round(loss - twin, 5),
                "noise_loss_over_drop": round(noise / (loss - annealed), 3),
                "noise_loss_over_drop_from_twin": round(noise / (twin - annealed), 3),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main():
    """Measures the networks that are wanted and missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", help="words in the names wanted")
    parser.add_argument("--data-dir", help="folder of tensorflow-datasets")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--threads", type=int, default=0, help="of TensorFlow")
    output = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=output)
    args = parser.parse_args()
    ends_at = time.monotonic() + 60 * args.minutes
    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    result = {
        "what": "O_R/2 against the drop of the training loss in an anneal",
        "settings": {"anneal_epochs": ANNEAL, "seed": 0, "networks": SETTINGS},
        "networks": {},
    }
    if args.output.exists():
        result["networks"] = json.loads(args.output.read_text())["networks"]
    for name, setting in SETTINGS.items():
        wanted = not args.networks or any(word in name for word in args.networks)
        if not wanted or name in result["networks"] or time.monotonic() > ends_at:
            continue
        print(name, flush=True)
        result["networks"][name] = measure(setting, args.data_dir)
        keep(args.output, result)


if __name__ == "__main__":
    main()
