"""Weights of classes and examples in `fit` beside full-batch passes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_fdr import FDRSGD, FDRCallback

N, L2 = 40, 0.01
X = np.random.default_rng(0).normal(size=(N, 5)).astype("float32")
CLASSES = np.random.default_rng(1).integers(0, 3, N)
WEIGHT = np.linspace(3, 0.1, N).astype("float32")
CLASS_WEIGHT = {0: 10.0, 2: 0.1}  # Class 1 is not named: its weight is 1.
OF_EACH = np.array([10.0, 1.0, 0.1])[CLASSES]

LABELS = {
    "integers": (CLASSES, "sparse_categorical_crossentropy"),
    "column": (CLASSES[:, None].astype("float32"), "sparse_categorical_crossentropy"),
    "floats": (CLASSES.astype("float32"), "sparse_categorical_crossentropy"),
    "one_hot": (np.eye(3, dtype="float32")[CLASSES], "categorical_crossentropy"),
}


def classifier(loss="sparse_categorical_crossentropy"):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(3, activation="softmax")]
    )
    # So slow that the pass sees the weights of the beginning.
    model.compile(FDRSGD(1e-9, l2=L2), loss=loss)
    return model


def by_hand(model, weights):
    """f and |∇f| in NumPy."""
    kernel, bias = (w.astype("float64") for w in model.get_weights())
    logits = X @ kernel + bias
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    loss = -(weights * np.log(p[np.arange(N), CLASSES])).mean()
    loss += L2 / 2 * ((kernel**2).sum() + (bias**2).sum())
    error = weights[:, None] * (p - np.eye(3)[CLASSES]) / N
    gradient = [X.T @ error + L2 * kernel, error.sum(0) + L2 * bias]
    return loss, sum((g**2).sum() for g in gradient) ** 0.5


def measured(callback, model, *data, **arguments):
    arguments = {"batch_size": N, **arguments} if len(data) > 1 else arguments
    history = model.fit(*data, verbose=0, callbacks=[callback], **arguments).history
    return [history[f"full_batch_{name}"][-1] for name in ("loss", "gradient_norm")]


@pytest.mark.parametrize("batched", [False, True], ids=["arrays", "dataset"])
@pytest.mark.parametrize("name", LABELS)
def test_class_weight_is_applied(name, batched):
    y, loss = LABELS[name]
    model = classifier(loss)
    full_batch = (X, y)
    if batched:
        full_batch = tf.data.Dataset.from_tensor_slices(full_batch).batch(7)
    callback = FDRCallback(factor=None, full_batch=full_batch)
    found = measured(callback, model, X, y, class_weight=CLASS_WEIGHT)
    np.testing.assert_allclose(found, by_hand(model, OF_EACH), rtol=1e-5)


def test_class_weight_of_the_next_fit():
    model = classifier()
    callback = FDRCallback(factor=None, full_batch=(X, CLASSES))
    for class_weight, weights in (
        (CLASS_WEIGHT, OF_EACH),
        (None, np.ones(N)),
        ({1: 4.0}, np.where(CLASSES == 1, 4.0, 1.0)),
    ):
        found = measured(callback, model, X, CLASSES, class_weight=class_weight)
        np.testing.assert_allclose(found, by_hand(model, weights), rtol=1e-5)


def test_class_weight_beside_weights_of_the_data():
    """Then those are the final weights."""
    model = classifier()
    callback = FDRCallback(
        factor=None, full_batch=(X, CLASSES, OF_EACH.astype("float32"))
    )
    found = measured(callback, model, X, CLASSES, class_weight=CLASS_WEIGHT)
    np.testing.assert_allclose(found, by_hand(model, OF_EACH), rtol=1e-5)


def test_class_weight_of_a_map_of_classes():
    """Keras has no such weights for arrays, but would for a dataset."""
    x = np.ones((8, 4, 5), "float32")
    y = np.zeros((8, 4), "int32")
    model = keras.Sequential(
        [keras.Input((4, 5)), keras.layers.Dense(2, activation="softmax")]
    )
    model.compile(FDRSGD(0.1, l2=L2), loss="sparse_categorical_crossentropy")
    before = model.get_weights()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    with_axis = dataset.map(lambda x, y: (x, y[..., None]))
    callback = FDRCallback(full_batch=with_axis)
    options = {"verbose": 0, "callbacks": [callback], "shuffle": False}
    with pytest.raises(ValueError, match=r"one class per example.* Received: labels"):
        model.fit(dataset, class_weight={0: 2.0}, **options)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


class Batches(keras.utils.PyDataset):
    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return 2

    def __getitem__(self, i):
        return tuple(part[20 * i : 20 * i + 20] for part in self.parts)


def generator(*parts):
    # Keras looks at the first batches before it trains.
    return (tuple(part[:20] for part in parts) for _ in range(10))


KINDS = {
    "arrays": None,
    "dataset": lambda *parts: tf.data.Dataset.from_tensor_slices(parts).batch(20),
    "py_dataset": Batches,
    "generator": generator,
}


def fit(kind, model, callback, *parts):
    options = {"verbose": 0, "callbacks": [callback], "shuffle": False}
    if KINDS[kind] is None:
        names = dict(zip(("sample_weight",), parts[2:], strict=False))
        return model.fit(*parts[:2], **names, **options)
    steps = {"steps_per_epoch": 2} if kind == "generator" else {}
    return model.fit(KINDS[kind](*parts), **steps, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_refuses_weights_that_the_pass_lacks(kind):
    model = classifier()
    before = model.get_weights()
    callback = FDRCallback(full_batch=(X, CLASSES))
    with pytest.raises(ValueError, match=r"`full_batch=\(x, y, sample_weight\)`"):
        fit(kind, model, callback, X, CLASSES, WEIGHT)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", [(), (WEIGHT,)], ids=["without", "with"])
def test_takes_the_same_weights_in_both(kind, weights):
    model = classifier()
    callback = FDRCallback(factor=None, full_batch=(X, CLASSES, *weights))
    history = fit(kind, model, callback, X, CLASSES, *weights).history
    loss, _ = by_hand(model, weights[0] if weights else np.ones(N))
    assert history["full_batch_loss"][-1] == pytest.approx(loss, rel=1e-5)


def test_refuses_weights_under_a_strategy():
    with tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]).scope():
        model = classifier()
    callback = FDRCallback(full_batch=(X, CLASSES))
    with pytest.raises(ValueError, match=r"`full_batch=\(x, y, sample_weight\)`"):
        model.fit(X, CLASSES, sample_weight=WEIGHT, verbose=0, callbacks=[callback])


def test_another_loop_than_fit_knows_of_no_weights():
    """What calls the callback by itself decides what the batches are."""
    model = classifier()
    callback = FDRCallback(factor=None, full_batch=(X, CLASSES))
    callback.set_model(model)
    callback.set_params({})
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    model.train_on_batch(X, CLASSES, sample_weight=WEIGHT)
    logs: dict = {}
    callback.on_epoch_end(0, logs)
    loss, _ = by_hand(model, np.ones(N))
    assert logs["full_batch_loss"] == pytest.approx(loss, rel=1e-5)
