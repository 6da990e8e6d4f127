"""Models of every kind that is exported, and what is done with each."""

from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_fdr import FDRSGD, FDRObservables

BATCH, STEPS = 16, 100


class Case(NamedTuple):
    model: keras.Model
    arrays: tuple
    signature: Any = None


def data(seed=0, examples=200):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(examples, 6)).astype("float32")
    target = np.tanh(x[:, :1] - x[:, 1:2] * x[:, 2:3]).astype("float32")
    label = (x[:, 0] > 0).astype("int64") + (x[:, 1] > 0)
    return x, target, label


def mlp(*layers):
    dense = partial(keras.layers.Dense, 12, activation="tanh")
    return keras.Sequential([keras.Input((6,)), dense(), *layers])


def classification():
    """Dropout, normalisation, a metric; the signature from the model."""
    x, _, label = data()
    model = mlp(
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(3, activation="softmax"),
    )
    optimizer = FDRSGD(0.05, momentum=0.9, dampening=0.3, l2=0.01)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return Case(model, (x, label))


def regression():
    """No momentum; clipping; a record that has merged."""
    x, target, _ = data()
    model = mlp(keras.layers.Dense(1))
    observables = FDRObservables(capacity=16, center="initial", per_variable=True)
    optimizer = FDRSGD(0.1, l2=0.01, clipnorm=0.2, observables=observables)
    model.compile(optimizer, "mse")
    return Case(model, (x, target))


def named_inputs():
    """A dictionary of inputs."""
    x, target, _ = data()
    sizes = {"left": 2, "right": 4}
    inputs = {name: keras.Input((n,), name=name) for name, n in sizes.items()}
    joined = keras.layers.Concatenate()([inputs["left"], inputs["right"]])
    output = keras.layers.Dense(1, kernel_regularizer=keras.regularizers.L2(0.01))(
        joined
    )
    model = keras.Model(inputs, output)
    model.compile(FDRSGD(0.05, momentum=0.9, clipvalue=0.5), keras.losses.Huber())
    return Case(model, ({"left": x[:, :2], "right": x[:, 2:]}, target))


def several_outputs():
    """A list of inputs, two outputs with losses by name, an embedding."""
    x, target, label = data()
    category, numbers = keras.Input((1,), dtype="int32"), keras.Input((6,))
    embedded = keras.layers.Flatten()(keras.layers.Embedding(3, 4)(category))
    hidden = keras.layers.Dense(8, "tanh")(
        keras.layers.Concatenate()([embedded, numbers])
    )
    outputs = [
        keras.layers.Dense(1, name="value")(hidden),
        keras.layers.Dense(3, name="kind")(hidden),
    ]
    model = keras.Model([category, numbers], outputs)
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        FDRSGD(0.05, momentum=0.9, l2=0.01, global_clipnorm=1.0),
        loss={"value": "mse", "kind": crossentropy},
        loss_weights={"value": 0.5, "kind": 1.0},
    )
    inputs = [label[:, None].astype("int32"), x]
    return Case(model, (inputs, {"value": target, "kind": label}))


def sample_weight():
    """A subclassed model with sample weights and a moving average of the weights."""

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, x):
            return self.dense(x)

    x, target, _ = data()
    weights = np.random.default_rng(1).uniform(size=len(x)).astype("float32")
    model = Subclassed()
    optimizer = FDRSGD(0.05, momentum=0.9, l2=0.01, use_ema=True)
    model.compile(optimizer, "mse", weighted_metrics=["mae"])
    signature = (
        tf.TensorSpec([None, 6]),
        tf.TensorSpec([None, 1]),
        tf.TensorSpec([None]),
    )
    return Case(model, (x, target, weights), signature)


def half_precision():
    """mixed_float16: a `LossScaleOptimizer` around ours."""
    x, target, _ = data()
    keras.config.set_dtype_policy("mixed_float16")
    model = mlp(keras.layers.Dense(1, dtype="float32"))
    keras.config.set_dtype_policy("float32")
    model.compile(FDRSGD(0.05, momentum=0.9, l2=0.01), "mse")
    return Case(model, (x, target))


def schedule():
    """A schedule, three batches to a step, and an export in the middle of a step."""
    x, target, _ = data()
    decay = keras.optimizers.schedules.PiecewiseConstantDecay([60], [0.1, 0.05])
    model = mlp(keras.layers.Dense(1))
    optimizer = FDRSGD(decay, momentum=0.5, l2=0.01, gradient_accumulation_steps=3)
    model.compile(optimizer, "mse")
    return Case(model, (x, target))


def cosine():
    """A learning rate that changes in each step, so that a record averages over it."""
    x, target, _ = data()
    decay = keras.optimizers.schedules.CosineDecay(0.1, 2 * STEPS)
    model = mlp(keras.layers.Dense(1))
    observables = FDRObservables(capacity=16)
    model.compile(FDRSGD(decay, 0.9, l2=0.01, observables=observables), "mse")
    return Case(model, (x, target))


ALL = {
    make.__name__: make
    for make in (
        classification,
        regression,
        named_inputs,
        several_outputs,
        sample_weight,
        half_precision,
        schedule,
        cosine,
    )
}


def take(arrays, examples):
    return tf.nest.map_structure(lambda a: a[examples], arrays)


def batches(seed, steps=STEPS, examples=200):
    rng = np.random.default_rng(seed)
    return rng.integers(0, examples, size=(steps, BATCH))
