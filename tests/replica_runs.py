"""The same training on one device and on several replicas."""

import contextlib
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from keras_fdr import FDRSGD, FDRCallback, Record


def mirrored(replicas):
    # TensorFlow mixes up the collectives of two strategies on the same devices.
    to_one = tf.distribute.ReductionToOneDevice()
    devices = [f"CPU:{i}" for i in range(replicas)]
    return tf.distribute.MirroredStrategy(devices, to_one)


@dataclass
class Run:
    """What a training left behind."""

    model: keras.Model
    callback: FDRCallback
    history: dict
    records: list[Record]  # at the end of each epoch, before any cut
    passes: list[Record]


class EveryRecord(keras.callbacks.Callback):
    """Keeps what `FDRCallback` saw at the end of each epoch."""

    def __init__(self, fdr):
        super().__init__()
        self.fdr, self.records, self.passes = fdr, [], []

    def on_epoch_end(self, epoch, logs=None):
        self.records.append(self.fdr.record)
        self.passes.append(inner(self.model).observables.full_batch_record())


def classifier():
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(16, activation="tanh"),
            keras.layers.Dense(10),
        ]
    )


def train(
    strategy,
    data,
    network=classifier,
    optimizer=FDRSGD,
    batch_size=48,
    epochs=5,
    threshold=0.9,
    **compile_arguments,
):
    """Five epochs with full-batch passes and a rule that cuts early."""
    keras.utils.set_random_seed(0)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = network()
        model.compile(
            optimizer=optimizer(),
            jit_compile=False,
            **{
                "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                **compile_arguments,
            },
        )
    fdr = FDRCallback(threshold=threshold, full_batch=data)
    every = EveryRecord(fdr)
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(batch_size)
    history = model.fit(
        dataset, epochs=epochs, shuffle=False, verbose=0, callbacks=[fdr, every]
    )
    return Run(model, fdr, history.history, every.records, every.passes)


def inner(model):
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def relative(a, b):
    """Largest difference over the largest value."""
    a, b = (np.asarray(v, "float64") for v in (a, b))
    assert a.shape == b.shape
    if a.size == 0:
        return 0.0
    return np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)


def columns(record):
    """Compares each column of a record on a separate scale. NaN must stay NaN."""
    return [np.nan_to_num(c, nan=-1.0) for c in record.sums.T]


def cuts(run):
    return [
        [c.epoch, c.old_learning_rate, c.new_learning_rate, c.ratio]
        for c in run.callback.cuts
    ]


def distances(run, reference):
    """How far two runs are apart, by what is compared."""
    pairs = {
        **{
            f"weight {i}": pair
            for i, pair in enumerate(
                zip(run.model.get_weights(), reference.model.get_weights(), strict=True)
            )
        },
        **{
            f"{kind} {name} of epoch {epoch}": pair
            for kind in ("records", "passes")
            for epoch, (ours, theirs) in enumerate(
                zip(getattr(run, kind), getattr(reference, kind), strict=True)
            )
            for name, *pair in zip(
                theirs.names, columns(ours), columns(theirs), strict=True
            )
        },
        **{
            f"history {name}": (run.history[name], reference.history[name])
            for name in reference.history
        },
        "cuts": (cuts(run), cuts(reference)),
    }
    return {name: relative(*pair) for name, pair in pairs.items()}


def copies_differ(model):
    """Names of the variables whose copies on the replicas are not bitwise equal."""
    optimizer = inner(model)
    layers = [optimizer.observables, optimizer.cut_table]
    variables = [
        *model.trainable_variables,
        *optimizer.variables,
        *(v for layer in layers for v in layer.variables),
    ]
    different = []
    for variable in variables:
        first, *others = (
            c.numpy().tobytes() for c in getattr(variable.value, "values", [])
        )
        if any(other != first for other in others):
            different.append(variable.path)
    return different
