"""The shares of replicas in a loss: they are exact, or refused with an error."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from full_batch_cases import sequences, stepwise, weighted
from replica_runs import classifier, distances, inner, mirrored, relative, train

from keras_fdr import FDRSGD, FDRCallback

TOLERANCE = 1e-5
XENT = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def sgd():
    return FDRSGD(0.1, l2=0.01)


def compile_on(strategy, network=classifier, optimizer=sgd, **arguments):
    with strategy.scope():
        model = network()
        model.compile(optimizer(), **{"loss": XENT, **arguments})
    return model


def masked():
    return stepwise(keras.layers.Masking(), keras.layers.Dense(4, "tanh"))


def small():
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])


COUNTED_BY_THEMSELVES = {
    # The third batch of 24 has 12 short sequences, then 12 long ones.
    "masked": (sequences(72), masked, "mse"),
    "sum_of_weights": (
        weighted(60),
        small,
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
    ),
}


@pytest.mark.parametrize("name", COUNTED_BY_THEMSELVES)
def test_means_over_counts_of_their_own(name):
    """Exact too; with equal weights of the replicas the rows are far off."""
    data, network, loss = COUNTED_BY_THEMSELVES[name]
    one, two = (
        train(strategy, data, network, sgd, 24, 2, loss=loss)
        for strategy in (None, mirrored(2))
    )
    # Stock Keras' mean of the losses that it logs is over the replicas.
    far = {k: d for k, d in distances(two, one).items() if not d < TOLERANCE}
    assert set(far) <= {"history loss"}


def two_masked():
    x = keras.Input((8, 2))
    h = keras.layers.Masking()(x)
    steps = keras.layers.Dense(1, name="steps")(h)
    mean = keras.layers.Dense(1, name="mean")(keras.layers.GlobalMaxPooling1D()(x))
    return keras.Model(x, [steps, mean])


def summed():
    return keras.losses.MeanSquaredError(reduction="sum")


class AddsLoss(keras.layers.Layer):
    def call(self, x):
        self.add_loss(keras.ops.mean(x**2))
        return x


class OwnLoss(keras.Sequential):
    def compute_loss(self, *arguments, **keywords):
        return super().compute_loss(*arguments, **keywords)


def adding():
    return keras.Sequential([keras.Input((8,)), AddsLoss(), keras.layers.Dense(3)])


def own_loss():
    return OwnLoss([keras.Input((8,)), keras.layers.Dense(3)])


X, Y = sequences(40)
REFUSED = {
    "several_counts": (
        (X, (Y, Y[:, 0])),
        two_masked,
        ["mse", "mse"],
        r"all losses must be means over the same count.*2 losses, of which \['steps'",
    ),
    "sum": ((X, Y), masked, summed(), "must be a mean over the examples: .*'sum'"),
    "add_loss": (weighted(40)[:2], adding, XENT, "must be a mean .*add_loss"),
    "own_loss": (weighted(40)[:2], own_loss, XENT, "leave its loss .*compute_loss"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_any_step(name):
    data, network, loss, message = REFUSED[name]
    model = compile_on(mirrored(2), network, loss=loss)
    before = model.get_weights()
    with pytest.raises(ValueError, match=f"(?s){message}"):
        model.fit(*data, batch_size=20, verbose=0, callbacks=[FDRCallback()])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_unknown_shares_are_refused(digits):
    """`fit` without the callback, which tells the shares."""
    model = compile_on(mirrored(2))
    before = model.get_weights()
    with pytest.raises(ValueError, match="(?s)must know .*a step on 2 replicas"):
        model.fit(*digits, batch_size=50, verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("divided", ["by_own_share", "by_global_batch"])
def test_loop_of_ones_own(digits, divided):
    """Both ways in which the losses of replicas can make up that of the batch."""
    x, y = digits
    sizes = 49, 50  # 25 and 24 examples, then 25 and 25
    records = []
    for strategy in (mirrored(2), tf.distribute.get_strategy()):
        keras.utils.set_random_seed(0)
        model = compile_on(strategy)
        optimizer = model.optimizer
        with strategy.scope():
            optimizer.build(model.trainable_variables)
        each = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="none"
        )

        def step(x, y, size, model=model, optimizer=optimizer, each=each):
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            with tf.GradientTape() as tape:
                if divided == "by_own_share":
                    optimizer.mean_over(tf.shape(x)[0])
                    loss = tf.reduce_mean(each(y, model(x))) / replicas
                else:
                    optimizer.mean_over(None)
                    loss = tf.reduce_sum(each(y, model(x))) / size
                loss = optimizer.scale_loss(loss)
            weights = model.trainable_variables
            optimizer.apply(tape.gradient(loss, weights), weights)

        run = tf.function(lambda *a, s=strategy, f=step: s.run(f, args=a))
        start = 0
        for size in sizes:
            batch = tf.data.Dataset.from_tensors(
                (x[start : start + size], y[start : start + size])
            ).unbatch()
            start += size
            (part,) = strategy.experimental_distribute_dataset(batch.batch(size))
            run(*part, tf.constant(size, tf.float32))
        records.append(optimizer.observables.record())
    ours, reference = records
    assert ours.steps == reference.steps == len(sizes)
    assert relative(ours.sums, reference.sums) < TOLERANCE
    assert np.isfinite(reference.sums).all()


def test_mixed_precision_follows_stock_keras(digits):
    """float16 rounds each replica's gradient: stock Keras is the reference here."""
    weights = []
    for optimizer in (lambda: keras.optimizers.SGD(0.1, 0.9), lambda: FDRSGD(0.1, 0.9)):
        keras.utils.set_random_seed(0)
        keras.config.set_dtype_policy("mixed_float16")
        model = compile_on(mirrored(2), optimizer=optimizer)
        callbacks = []
        if isinstance(inner(model), FDRSGD):
            callbacks = [FDRCallback(factor=None)]
            with pytest.warns(UserWarning, match="no L2 term"):
                model.fit(*digits, 40, 5, shuffle=False, verbose=0, callbacks=callbacks)
            record = inner(model).observables.record()
            assert np.isfinite(record.sums).all()
            assert record.steps == int(inner(model).iterations.numpy())
        else:
            model.fit(*digits, 40, 5, shuffle=False, verbose=0)
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    assert relative(*weights) < TOLERANCE


@pytest.mark.parametrize("where", [0, 20])
def test_infinite_gradient_of_one_replica(digits, where):
    """Whichever replica it is on: no step, nothing recorded, half the loss scale."""
    x, y = digits
    x = x.copy()
    x[where] = 1e5  # infinite in float16
    keras.config.set_dtype_policy("mixed_float16")
    model = compile_on(mirrored(2))
    scale = float(model.optimizer.initial_scale)
    before = model.get_weights()
    callback = FDRCallback(factor=None)
    with np.errstate(over="ignore"):
        model.fit(x[:40], y[:40], 40, shuffle=False, verbose=0, callbacks=[callback])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert inner(model).observables.record().steps == 0
    copies = [c.numpy() for c in model.optimizer.dynamic_scale.value.values]
    assert copies == [scale / 2] * 2


def test_weights_of_another_strategy_are_refused():
    class Here(tf.distribute.ParameterServerStrategy):
        def __init__(self):
            pass

    # Making one needs a cluster; only its name matters.
    optimizer = sgd()
    weights = small().trainable_variables
    strategy = Here()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.distribute, "get_strategy", lambda: strategy)
        with pytest.raises(ValueError, match="`ParameterServerStrategy` is not supp"):
            optimizer.build(weights)
