"""FullBatchPass leaves everything as it was, also what is random."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from full_batch_cases import (
    STRATEGIES,
    Case,
    batches,
    compiled,
    difference,
    labelled,
    norm,
    random_network,
    weighted,
)
from keras import layers

from keras_fdr import FDRSGD
from keras_fdr.full_batch.passes import FullBatchPass

RANDOM = Case("random", model=random_network)


def components(model, strategy):
    """Every replica's copy of every variable."""
    optimizer = model.optimizer
    every = [*model.variables, *model.metrics_variables, *optimizer.variables]
    values = [strategy.experimental_local_results(v.value) for v in every]
    return [part.numpy() for value in values for part in value]


@STRATEGIES
@pytest.mark.parametrize("training", [False, True])
def test_leaves_everything_as_it_was(strategy, training):
    strategy = strategy()
    case = Case("random", model=random_network, data=weighted)
    sgd = lambda: keras.optimizers.SGD(0.1, momentum=0.9)  # noqa: E731
    model = compiled(
        case, strategy, sgd, metrics=["accuracy"], weighted_metrics=["accuracy"]
    )
    # So that there are counts in the metrics, other ones on each replica.
    model.fit(batches(weighted(97)), shuffle=False, verbose=0)
    before = components(model, strategy)
    if strategy.num_replicas_in_sync > 1:
        counts = model.metrics_variables[-1].value
        one, two = strategy.experimental_local_results(counts)
        assert one.numpy() != two.numpy()
    full_pass = FullBatchPass(model, batches(weighted(91)), training=training)
    for _ in range(2):
        full_pass(gradient=True)
        for a, b in zip(components(model, strategy), before, strict=True):
            np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.parametrize("training", [False, True])
def test_training_goes_the_same_way(digits, training):
    def fit(with_passes):
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [
                keras.Input((64,)),
                layers.Dense(16, "relu"),
                layers.BatchNormalization(),
                layers.Dropout(0.3),
                layers.Dense(10),
            ]
        )
        model.compile(
            optimizer=FDRSGD(0.05, 0.9, l2=0.01),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,
        )
        callbacks = []
        if with_passes:
            full_pass = FullBatchPass(model, digits, training=training)
            callbacks = [
                keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: full_pass())
            ]
        history = model.fit(
            *digits, batch_size=30, epochs=3, verbose=0, callbacks=callbacks
        ).history
        optimizer = model.optimizer
        return [*model.variables, *optimizer.variables, *optimizer.velocities], history

    (with_passes, history), (without, other) = fit(True), fit(False)
    assert history == other
    for a, b in zip(with_passes, without, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_training_differentiates_the_random_function():
    """With `training=True` ∇f is that of the layers as they run in training."""
    model = compiled(RANDOM, tf.distribute.get_strategy())
    x, y = labelled(97)
    drawn, still = (
        FullBatchPass(model, (x, y), training=training)(gradient=True)
        for training in (True, False)
    )
    with tf.GradientTape() as tape:
        # The seed generators stand where they stood before the passes.
        f = RANDOM.loss(model, model(x, training=True), x, y)
    gradient = tape.gradient(f, [w.value for w in model.trainable_variables])
    assert drawn.loss == pytest.approx(float(f), rel=1e-6)
    assert norm(difference(drawn.gradient, gradient)) < 1e-5 * norm(gradient)
    assert norm(difference(drawn.gradient, still.gradient)) > 0.1 * norm(gradient)
