"""Training on several replicas measures what one device would.

Weights, rows, half-running averages, cuts, logs and full-batch passes of 5 epochs on 2,
3 and 4 logical devices against those of the same global batches on one, which shares
none of the code that reduces. The last batch of each epoch has 8 examples: on 3
replicas 3, 3 and 2.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from identity import arrays, residual, zeros
from replica_runs import (
    classifier,
    copies_differ,
    distances,
    inner,
    mirrored,
    relative,
    train,
)
from test_identity import convolutional, embedding, without_gradient

from keras_fdr import FDRSGD, FDRCallback, FDRObservables

TOLERANCE = 1e-5


def sgd(**arguments):
    return lambda: FDRSGD(0.1, **{"l2": 0.01, **arguments})


def detailed():
    observables = FDRObservables(capacity=4, center="initial", per_variable=True)
    return FDRSGD(0.05, 0.9, l2=0.01, observables=observables)


def regularised():
    decay = {"kernel_regularizer": "l2", "activity_regularizer": "l2"}
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((64,)), layers.Dense(16, "tanh", **decay), layers.Dense(10)]
    )


def two_headed():
    x = keras.Input((64,))
    h = keras.layers.Dense(16, "tanh")(x)
    return keras.Model(
        x,
        [keras.layers.Dense(10, name="a")(h), keras.layers.Dense(1, name="b")(h)],
    )


XENT = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# Several settings in a case where one does not hide another.
CASES = {
    "momentum": {"optimizer": sgd(momentum=0.9)},
    "dampening": {
        "optimizer": sgd(momentum=0.9, dampening=0.3, loss_scale_factor=128.0),
        "metrics": ["accuracy"],
    },
    "global_clipnorm": {
        "optimizer": sgd(global_clipnorm=0.05, momentum=0.9),
        "threshold": 1e3,
    },
    "clipvalue": {"optimizer": sgd(clipvalue=0.005), "threshold": 1e3},
    "accumulation": {
        "optimizer": sgd(gradient_accumulation_steps=2, momentum=0.9),
        "threshold": 1e3,
    },
    "accumulation_clipped": {
        "optimizer": sgd(gradient_accumulation_steps=3, clipnorm=0.05),
        "threshold": 1e3,
    },
    "average": {"optimizer": sgd(use_ema=True, ema_momentum=0.9)},
    "center_and_tensors": {"optimizer": detailed, "threshold": 1e-9},
    "regularised": {"optimizer": sgd(l2=0.0), "network": regularised},
    "two_headed": {
        "optimizer": sgd(),
        "network": two_headed,
        "loss": [XENT, "mse"],
        "loss_weights": [1.0, 0.3],
    },
    "convolutional": {"optimizer": sgd(momentum=0.9), "network": convolutional},
    "embedding": {"optimizer": sgd(), "network": embedding},
    "eager": {"optimizer": sgd(momentum=0.9), "run_eagerly": True},
}


def data_of(case, digits):
    x, y = digits
    if "loss_weights" in case:
        return x, (y, y[:, None].astype("float32") / 9)
    return x, y, np.linspace(0.1, 3, len(x)).astype("float32")


@pytest.fixture(scope="module")
def one_device(digits):
    """The run of a case on one device, trained once."""
    runs = {}

    def reference(name):
        if name not in runs:
            case = CASES[name]
            runs[name] = train(None, data_of(case, digits), **case)
        return runs[name]

    return reference


# What stock Keras logs of its own otherwise on several replicas: the losses of single
# outputs, where shares are unequal, and every loss under `CentralStorageStrategy`.
NOT_OURS = {"history a_loss", "history b_loss"}


def far_apart(run, reference, but=NOT_OURS):
    return {
        name: distance
        for name, distance in distances(run, reference).items()
        if not distance < TOLERANCE and name not in but
    }


@pytest.mark.filterwarnings("ignore:FDR2 needs mini-batch gradients")
@pytest.mark.parametrize(
    ("name", "replicas"),
    [(name, 3) for name in CASES]
    + [("momentum", 2), ("momentum", 4), ("accumulation", 4)],
)
def test_equals_one_device(name, replicas, digits, one_device):
    case = CASES[name]
    reference = one_device(name)
    assert bool(reference.callback.cuts) == (case.get("threshold", 1) > 0.01)
    run = train(mirrored(replicas), data_of(case, digits), **case)
    assert not far_apart(run, reference)
    assert not copies_differ(run.model)


def test_records_of_tensors(digits, one_device):
    run = train(mirrored(2), data_of({}, digits), **CASES["center_and_tensors"])
    reference = one_device("center_and_tensors")
    ours, theirs = (inner(r.model).observables for r in (run, reference))
    records = [list(o.record_by_variable().values()) for o in (ours, theirs)]
    assert len(records[1]) == 4
    for one, other in zip(*records, strict=True):
        assert relative(one.sums, other.sums) < TOLERANCE


@pytest.mark.parametrize("center", [None, "initial"])
def test_exact_identity(digits, center):
    """Without a run to compare with: rounding alone, on rows of the global batch."""
    x, y = digits
    with mirrored(2).scope():
        model = classifier()
        observables = FDRObservables(center=center)
        optimizer = FDRSGD(0.2, 0.9, observables=observables, l2=0.01)
        model.compile(optimizer, XENT)
    theta = arrays(model.trainable_variables)
    before = theta, zeros(theta)
    fdr = FDRCallback(factor=None)
    model.fit(x, y, batch_size=48, epochs=5, verbose=0, callbacks=[fdr])
    after = arrays(model.trainable_variables), arrays(optimizer.velocities)
    theta_c = theta if center else zeros(theta)
    record = optimizer.observables.record()
    assert record.steps == 25
    assert residual(record, before, after, optimizer, theta_c) < 1e-5


def test_batches_smaller_than_the_replicas(digits):
    """The last batch has 2 examples for 3 replicas, one of which gets none."""
    data = data_of({}, digits)
    runs = [
        train(strategy, data, batch_size=66, optimizer=sgd(momentum=0.9))
        for strategy in (mirrored(3), None)
    ]
    assert not far_apart(*runs)


def central_storage():
    return tf.distribute.experimental.CentralStorageStrategy(
        ["CPU:0", "CPU:1"], "CPU:0"
    )


@pytest.mark.parametrize(
    "strategy",
    [
        lambda: tf.distribute.OneDeviceStrategy("CPU:1"),
        lambda: mirrored(1),
        central_storage,
    ],
    ids=["one_device", "mirrored_1", "central_storage"],
)
def test_other_strategies(strategy, digits, one_device):
    run = train(strategy(), data_of({}, digits), **CASES["momentum"])
    assert not far_apart(run, one_device("momentum"), but={"history loss"})


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_weights_without_gradient(digits):
    runs = [
        train(strategy, data_of({}, digits), without_gradient, sgd(), epochs=2)
        for strategy in (mirrored(2), None)
    ]
    assert not far_apart(*runs)
