"""Models and data, with the loss over all examples written out by hand."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import Input, Model, Sequential, layers
from keras.losses import SparseCategoricalCrossentropy
from keras.regularizers import L2

from keras_fdr import FDRSGD

STEPS = 8
XENT = SparseCategoricalCrossentropy(from_logits=True)


# Data of n examples. What comes first differs from what comes last, so that a mean
# of the batches' means is wrong.


def labelled(n):
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, 8)).astype("float32")
    return x, rng.integers(0, 3, n)


def weighted(n):
    return *labelled(n), np.linspace(3, 0.1, n).astype("float32")


def two_labels(n):
    x, y = labelled(n)
    return x, {"a": y, "b": (x[:, :1] + 3 * y[:, None]).astype("float32")}


def regression(n):
    x, y = two_labels(n)
    return x, y["b"]


def two_inputs(n):
    x, y = labelled(n)
    return {"left": x[:, :4], "right": x[:, 4:]}, y


def sequences(n):
    """Mostly short sequences with large targets, then long ones with small."""
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, STEPS, 2)).astype("float32")
    short = np.arange(n) < 60
    x[np.arange(STEPS) >= np.where(short, 1, STEPS)[:, None]] = 0
    y = np.where(short, 5, 1)[:, None, None] * rng.normal(size=(n, STEPS, 1))
    return x, y.astype("float32")


def weighted_sequences(n):
    # Keras takes the weights of masked steps with an axis for the steps only.
    return *sequences(n), np.linspace(3, 0.1, n)[:, None].astype("float32")


def words(n):
    x, y = sequences(n)
    return np.where(x[..., 0] == 0, 0, 1 + np.argsort(x[..., 0]) % 6), y


def sequences_two_labels(n):
    x, y = sequences(n)
    return x, [y, x.sum((1, 2))[:, None]]


# Models.


def classifier(*middle, **arguments):
    return Sequential(
        [Input((8,)), layers.Dense(6, "tanh", **arguments), *middle, layers.Dense(3)]
    )


def random_network(**arguments):
    return classifier(
        layers.BatchNormalization(),
        layers.Dropout(0.5, seed=7),
        layers.GaussianNoise(0.1, seed=8),
        **arguments,
    )


def two_headed():
    x = Input((8,))
    h = layers.Dense(6, "tanh")(x)
    return Model(x, [layers.Dense(3, name="a")(h), layers.Dense(1, name="b")(h)])


def two_legged():
    x = {name: Input((4,), name=name) for name in ("left", "right")}
    h = [layers.Dense(3 + i, "tanh")(v) for i, v in enumerate(x.values())]
    return Model(x, layers.Dense(3)(layers.Concatenate()(h)))


def stepwise(first, *middle, shape=(STEPS, 2)):
    return Sequential([Input(shape), first, *middle, layers.Dense(1)])


def masked_and_pooled():
    x = Input((STEPS, 2))
    h = layers.Dense(3, "tanh")(layers.Masking()(x))
    mean = layers.Dense(1)(layers.GlobalAveragePooling1D()(h))
    return Model(x, [layers.Dense(1)(h), mean])


def unused_head():
    x = Input((8,))
    return Model(x, [layers.Dense(3)(x), layers.Dense(1)(x)])


# f over all examples, by hand.


def cross_entropy(y, logits):
    logits = tf.convert_to_tensor(logits)
    logits = tf.cast(logits, "float64" if logits.dtype == "float64" else "float32")
    return tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)


def mean_xent(model, out, x, y):
    return tf.reduce_mean(cross_entropy(y, out))


def square(weights):
    return tf.add_n([tf.reduce_sum(tf.square(w.value)) for w in weights])


def two_losses(model, out, x, y):
    squares = tf.square(out[1] - y["b"])
    return 0.3 * mean_xent(model, out[0], x, y["a"]) + 2 * tf.reduce_mean(squares)


def masked_squares(model, out, x, y, w=1.0):
    """Σ over the valid steps, divided by their number (not by Σ w)."""
    valid = tf.cast(x if x.ndim == 2 else np.any(x != 0, -1), "bool")
    valid = tf.cast(valid, "float32")
    squares = tf.square(out[..., 0] - y[..., 0]) * w
    return tf.reduce_sum(valid * squares) / tf.reduce_sum(valid)


@dataclass(frozen=True)
class Case:
    """A model, its data, its f by hand and how it is compiled."""

    name: str
    data: Callable = labelled
    model: Callable = classifier
    loss: Callable = mean_xent
    compile: dict = field(default_factory=lambda: {"loss": XENT})
    l2: float = 0.0
    tolerance: float = 1e-6
    policy: str = "float32"
    # Whether a mean of the batches' means would be off by more than 10%.
    uneven: bool = False


MSE = {"loss": "mse"}
CASES = [
    Case("classification"),
    Case(
        "l2_in_layers",
        model=lambda: classifier(kernel_regularizer=L2(0.1), bias_regularizer=L2(0.2)),
        loss=lambda model, *parts: (
            mean_xent(model, *parts)
            + 0.1 * square(model.weights[:1])
            + 0.2 * square(model.weights[1:2])
        ),
    ),
    Case(
        "l2_in_optimizer",
        l2=0.2,
        loss=lambda model, *parts: (
            mean_xent(model, *parts) + 0.1 * square(model.weights)
        ),
    ),
    Case(
        "l2_in_both",
        l2=0.2,
        model=lambda: classifier(kernel_regularizer=L2(0.3)),
        loss=lambda model, *parts: (
            mean_xent(model, *parts)
            + 0.1 * square(model.weights)
            + 0.3 * square(model.weights[:1])
        ),
    ),
    Case(
        "sample_weights",
        weighted,
        loss=lambda model, out, x, y, w: (
            tf.reduce_sum(w * cross_entropy(y, out)) / len(w)
        ),
    ),
    Case(
        "mean_with_sample_weight",
        weighted,
        loss=lambda model, out, x, y, w: (
            tf.reduce_sum(w * cross_entropy(y, out)) / tf.reduce_sum(w)
        ),
        compile={
            "loss": SparseCategoricalCrossentropy(
                from_logits=True, reduction="mean_with_sample_weight"
            )
        },
    ),
    Case(
        "two_outputs_lists",
        lambda n: (two_labels(n)[0], list(two_labels(n)[1].values())),
        two_headed,
        lambda model, out, x, y: two_losses(model, out, x, {"a": y[0], "b": y[1]}),
        {"loss": [XENT, "mse"], "loss_weights": [0.3, 2.0]},
    ),
    Case(
        "two_outputs_dicts",
        two_labels,
        two_headed,
        two_losses,
        {"loss": {"a": XENT, "b": "mse"}, "loss_weights": {"b": 2.0, "a": 0.3}},
    ),
    Case("two_inputs", two_inputs, two_legged),
    Case(
        "masked_steps",
        sequences,
        lambda: stepwise(layers.Masking(), layers.SimpleRNN(3, return_sequences=True)),
        masked_squares,
        MSE,
        uneven=True,
    ),
    Case(
        "masked_words",
        words,
        lambda: stepwise(layers.Embedding(7, 4, mask_zero=True), shape=(STEPS,)),
        masked_squares,
        MSE,
        uneven=True,
    ),
    Case(
        "masked_and_weighted",
        weighted_sequences,
        lambda: stepwise(layers.Masking(), layers.TimeDistributed(layers.Dense(3))),
        masked_squares,
        MSE,
        uneven=True,
    ),
    Case(
        "one_of_two_outputs_masked",
        sequences_two_labels,
        masked_and_pooled,
        lambda model, out, x, y: (
            0.3 * masked_squares(model, out[0], x, y[0])
            + 2 * tf.reduce_mean(tf.square(out[1] - y[1]))
        ),
        {"loss": ["mse", "mse"], "loss_weights": [0.3, 2.0]},
        uneven=True,
    ),
    Case(
        "normalised_and_dropped",
        model=lambda: classifier(layers.BatchNormalization(), layers.Dropout(0.5)),
    ),
    Case(
        "activity",
        model=lambda: classifier(activity_regularizer=L2(0.1)),
        loss=lambda model, out, x, y: (
            mean_xent(model, out, x, y)
            + 0.1 * tf.reduce_sum(tf.square(model.layers[0](x))) / len(x)
        ),
    ),
    Case(
        "embedding",
        lambda n: (words(n)[0], labelled(n)[1]),
        lambda: Sequential(
            [
                Input((STEPS,)),
                layers.Embedding(7, 4),
                layers.Flatten(),
                layers.Dense(3),
            ]
        ),
    ),
    Case(
        "unused_weight",
        model=unused_head,
        # The optimizer leaves alone what has no gradient.
        l2=0.2,
        loss=lambda model, out, x, y: (
            mean_xent(model, out[0], x, y) + 0.1 * square(model.weights[:2])
        ),
        compile={"loss": [XENT, None]},
    ),
    Case(
        "double",
        regression,
        lambda: stepwise(layers.Dense(6, "tanh"), shape=(8,)),
        lambda model, out, x, y: tf.reduce_mean(tf.square(out - y)),
        MSE,
        policy="float64",
        tolerance=1e-12,
    ),
    # Each batch's gradient is rounded to 11 bits once, and so is the reference.
    Case("mixed_float16", policy="mixed_float16", tolerance=2 * 2.0**-11),
]


def compiled(case, strategy, optimizer=None, **arguments):
    with strategy.scope():
        model = case.model()
        # XLA would take longer to compile than the test takes without.
        arguments = {"jit_compile": False, **case.compile, **arguments}
        optimizer = optimizer() if optimizer else FDRSGD(l2=case.l2)
        model.compile(optimizer=optimizer, **arguments)
    return model


def big_batch(case, model, data):
    """f and ∇f of all examples at once."""
    with tf.GradientTape() as tape:
        f = case.loss(model, model(data[0], training=False), *data)
    theta = [w.value for w in model.trainable_variables]
    return float(f), [
        np.zeros(w.shape) if g is None else tf.convert_to_tensor(g).numpy()
        for w, g in zip(theta, tape.gradient(f, theta), strict=True)
    ]


def norm(parts):
    return np.sqrt(sum(np.sum(np.square(p, dtype="float64")) for p in parts))


def difference(a, b):
    return [np.subtract(x, y) for x, y in zip(a, b, strict=True)]


def batches(data, size=32):
    return tf.data.Dataset.from_tensor_slices(as_tuples(data)).batch(size)


def as_tuples(data):
    # tf.data takes a list for one array.
    x, y, *w = data
    return x, tuple(y) if isinstance(y, list) else y, *w


def first(data, start, stop):
    return tf.nest.map_structure(lambda a: a[start:stop], data)


@contextlib.contextmanager
def precision(policy):
    keras.config.set_dtype_policy(policy)
    keras.config.set_floatx("float64" if policy == "float64" else "float32")
    yield
    keras.config.set_floatx("float32")


def mirrored():
    # TensorFlow mixes up the collectives of two strategies on the same devices.
    to_one = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], to_one)


STRATEGIES = pytest.mark.parametrize(
    "strategy", [tf.distribute.get_strategy, mirrored], ids=["one", "mirrored"]
)
