"""What FullBatchPass refuses and by which words, and what it shows meanwhile."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from full_batch_cases import (
    CASES,
    XENT,
    batches,
    classifier,
    compiled,
    labelled,
    two_headed,
    two_inputs,
    two_labels,
    two_legged,
)
from keras import layers

from keras_fdr.full_batch import passes
from keras_fdr.full_batch.passes import FullBatchPass

PLAIN = CASES[0]


def ready(model, **arguments):
    model.compile(**{"optimizer": "sgd", "loss": XENT, **arguments})
    return model


def plain():
    return compiled(PLAIN, tf.distribute.get_strategy())


def scalar_loss(y, y_pred):
    return keras.ops.mean(keras.ops.square(y_pred - keras.ops.cast(y, "float32")))


class OwnStep(keras.Sequential):
    def train_step(self, data):
        return super().train_step(data)


class OwnLoss(keras.Sequential):
    def compute_loss(self, **arguments):
        return super().compute_loss(**arguments)


class Adding(layers.Layer):
    def call(self, x):
        self.add_loss(keras.ops.mean(x))
        return x


def subclassed(kind):
    return ready(kind([keras.Input((8,)), layers.Dense(3)]))


def cross_entropy(reduction):
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction=reduction
    )


MODELS = {
    "not_compiled": (classifier, ValueError, "must be compiled .*model.compile"),
    "no_loss": (
        lambda: ready(classifier(), loss=None),
        ValueError,
        "must be compiled with an optimizer and a loss",
    ),
    "no_model": (lambda: "model", TypeError, "`keras.Model`. Received: str"),
    "only_a_layer": (lambda: layers.Dense(3), TypeError, "Received: Dense"),
    "sum": (
        lambda: ready(classifier(), loss=cross_entropy("sum")),
        ValueError,
        "must be a mean over the examples.* with reduction='sum'",
    ),
    "none": (
        lambda: ready(classifier(), loss=cross_entropy(None)),
        ValueError,
        "must be a mean over the examples.* with reduction=None",
    ),
    "scalar": (
        lambda: ready(classifier(), loss=scalar_loss),
        ValueError,
        "one value per example.*'scalar_loss' with a scalar",
    ),
    "train_step": (lambda: subclassed(OwnStep), ValueError, "OwnStep.train_step"),
    "compute_loss": (lambda: subclassed(OwnLoss), ValueError, "OwnLoss.compute_loss"),
    "add_loss": (
        lambda: ready(classifier(Adding(name="adding"))),
        ValueError,
        "added by layer 'adding'",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_refuses_model(name):
    make, error, words = MODELS[name]
    model = make()
    weights = [np.copy(w) for w in getattr(model, "get_weights", list)()]
    with pytest.raises(error, match=words):
        FullBatchPass(model, batches(labelled(97)))()
    for after, before in zip(getattr(model, "weights", ()), weights, strict=True):
        np.testing.assert_array_equal(after.numpy(), before)


def empty_generator():
    return tf.data.Dataset.from_generator(
        lambda: iter(()), output_signature=batches(labelled(9)).element_spec
    )


X, Y = labelled(97)
DATA = {
    "empty": (lambda: batches((X[:0], Y[:0])), ValueError, "an empty dataset"),
    "empty_generator": (empty_generator, ValueError, "an empty dataset"),
    "empty_batches": (
        lambda: batches((X, Y)).map(lambda x, y: (x[:0], y[:0])),
        ValueError,
        "an empty dataset",
    ),
    "empty_arrays": (lambda: (X[:0], Y[:0]), ValueError, "at least one.*[0, 0]"),
    "infinite": (lambda: batches((X, Y)).repeat(), ValueError, "infinite.*take"),
    "unlabelled": (
        lambda: tf.data.Dataset.from_tensor_slices(X).batch(32),
        ValueError,
        r"batches `\(x, y\)`.*Received: elements TensorSpec",
    ),
    "no_labels": (lambda: (X, None), ValueError, r"`\(x, y\)`.*Received: 2 parts"),
    "one_part": (lambda: (X,), ValueError, "Received: 1 parts"),
    "four_parts": (lambda: (X, Y, Y, Y), ValueError, "Received: 4 parts"),
    "four_parts_batched": (
        lambda: batches((X, Y, Y, Y)),
        ValueError,
        r"`\(x, y, sample_weight\)`.*Received: elements",
    ),
    "unequal": (lambda: (X, Y[:96]), ValueError, r"same number.*\[97, 96\]"),
    "unequal_weights": (
        lambda: (X, Y, np.ones(3, "float32")),
        ValueError,
        r"same number.*\[97, 97, 3\]",
    ),
    "two_inputs": (
        lambda: batches(two_inputs(97)),
        ValueError,
        "inputs of the model: 1 arrays. Received: 2 arrays",
    ),
    "two_labels": (
        lambda: batches(two_labels(97)),
        ValueError,
        "labels of the model: 1 arrays. Received: 2 arrays",
    ),
    "nothing": (lambda: None, TypeError, "`dataset` must be.*Received: NoneType"),
    "generator": (lambda: (_ for _ in ()), TypeError, "Received: generator"),
    "array": (lambda: X, TypeError, "Received: ndarray"),
}


@pytest.mark.parametrize("name", DATA)
def test_refuses_dataset(name):
    make, error, words = DATA[name]
    model = plain()
    before = model.get_weights()
    with pytest.raises(error, match=f"(?s){words}"):
        FullBatchPass(model, make())()
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "model, words",
    [
        (
            lambda: ready(two_legged()),
            "inputs of the model: 2 arrays. Received: 1 arrays",
        ),
        (
            lambda: ready(two_headed(), loss=[XENT, "mse"]),
            "labels of the model: 2 arrays. Received: 1 arrays",
        ),
    ],
    ids=["inputs", "labels"],
)
def test_refuses_too_few(model, words):
    with pytest.raises(ValueError, match=words):
        FullBatchPass(model(), batches((X, Y)))


def test_works_after_a_refused_call():
    """The error leaves nothing half done: neither sums nor metrics."""
    parts = [3]
    dataset = tf.data.Dataset.from_generator(
        lambda: (b for b in list(batches((X, Y)))[: parts[0]]),
        output_signature=batches((X, Y)).element_spec,
    )
    model = plain()
    full_pass = FullBatchPass(model, dataset)
    before = full_pass().loss
    parts[0] = 0
    with pytest.raises(ValueError, match="an empty dataset"):
        full_pass()
    parts[0] = 3
    assert full_pass().loss == before


def slow():
    def wait(x, y):
        tf.py_function(lambda: __import__("time").sleep(0.01), [], [])
        return x, y

    return batches((X, Y), 10).map(wait)


@pytest.mark.parametrize("known", [True, False])
def test_shows_progress_of_a_long_pass(monkeypatch, capsys, known):
    monkeypatch.setattr(passes, "_PATIENCE_SECONDS", 0)
    monkeypatch.setattr(passes, "_UPDATE_SECONDS", 0)
    dataset = slow() if known else slow().filter(lambda x, y: True)
    FullBatchPass(plain(), dataset, verbose=1)()
    shown = capsys.readouterr().out
    assert "10/10" in shown if known else "10/Unknown" in shown
    FullBatchPass(plain(), dataset)()
    assert capsys.readouterr().out == ""


def test_shows_nothing_of_a_short_pass(capsys):
    FullBatchPass(plain(), (X, Y), verbose=1)()
    assert capsys.readouterr().out == ""
