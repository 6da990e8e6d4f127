"""Weights that a layer assigns are refused before a step, and nothing else is."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from identity import Snapshot, arrays, residual, rounding_bound, zeros
from replica_runs import mirrored

from keras_fdr import FDRSGD, FDRCallback, export_trainer, prepare_distributed

_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(24, 6)).astype("float32")
Y = _RNG.normal(size=(24, 3)).astype("float32")
SEQUENCES = _RNG.normal(size=(24, 4, 6)).astype("float32")


class Assigning(keras.layers.Layer):
    """Divides its kernel by its norm in each call."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 3), name="kernel")

    def normalised(self):
        return self.kernel / keras.ops.norm(self.kernel)

    def call(self, x, training=False):
        if training:
            self.change()
        return x @ self.kernel

    def change(self):
        self.kernel.assign(self.normalised())


class AssigningNative(Assigning):
    """The same with TensorFlow's own variable."""

    def change(self):
        self.kernel.value.assign_sub(0.1 * self.kernel.value)


class AssigningInBranch(Assigning):
    """The same in a branch that is not taken."""

    def change(self):
        keras.ops.cond(
            keras.ops.sum(self.kernel) > 1e6,
            lambda: self.kernel.assign(self.normalised()),
            lambda: self.kernel.value + 0,
        )


class AssigningInFunction(Assigning):
    """The same in a function that is compiled separately."""

    @tf.function
    def change(self):
        self.kernel.assign(self.normalised())


class AssigningCell(keras.layers.SimpleRNNCell):
    """A cell that changes its kernel at each point of time."""

    def call(self, x, states, training=False):
        self.kernel.assign(0.9 * self.kernel)
        return super().call(x, states, training)


class AssigningModel(keras.Sequential):
    """A model that changes the weights of its layers."""

    def call(self, x, training=None, mask=None):
        self.layers[0].kernel.assign(0.9 * self.layers[0].kernel)
        return super().call(x, training=training, mask=mask)


def dense(units=3, **arguments):
    return keras.layers.Dense(units, name="inner", **arguments)


def sequential(*layers):
    return lambda: keras.Sequential([keras.Input((6,)), *[make() for make in layers]])


def spectral():
    return keras.layers.SpectralNormalization(dense(), name="spectral")


def recurrent():
    cell = AssigningCell(3, name="cell")
    return keras.Sequential([keras.Input((4, 6)), keras.layers.RNN(cell, name="rnn")])


def nested():
    inner = keras.Sequential([keras.Input((6,)), Assigning(name="deep")], name="block")
    inputs = keras.Input((6,))
    return keras.Model(inputs, inner(inputs) + dense()(inputs))


NETWORKS = {
    "spectral": (sequential(spectral), "spectral"),
    "keras variable": (sequential(lambda: Assigning(name="mine")), "mine"),
    "native variable": (sequential(lambda: AssigningNative(name="mine")), "mine"),
    "branch": (sequential(lambda: AssigningInBranch(name="mine")), "mine"),
    "function": (sequential(lambda: AssigningInFunction(name="mine")), "mine"),
    "cell in a loop": (recurrent, "rnn"),
    "nested": (nested, "block.*deep"),
    "not built yet": (lambda: keras.Sequential([Assigning(name="mine")]), "mine"),
    "model": (
        lambda: AssigningModel([keras.Input((6,)), dense()], name="assigning"),
        "assigning",
    ),
}


def compiled(model, **arguments):
    model.compile(FDRSGD(0.05, momentum=0.9, l2=0.1), loss="mse", **arguments)
    return model


def fit(model, x=X, y=Y, **arguments):
    options = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    callbacks = [FDRCallback(factor=None)]
    return model.fit(x, y, **{**options, "callbacks": callbacks, **arguments})


def refused(train, model, name):
    """`train(model)` is refused by the layer's name, and no weight has moved."""
    before = model.get_weights()
    message = f"Trainable weights must.*Received: the layer '.*{name}.*, which assigns"
    with pytest.raises(ValueError, match=message):
        train(model)
    for a, b in zip(before, model.get_weights(), strict=False):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("eager", [False, True], ids=["compiled", "eager"])
def test_layers_that_assign_are_refused(name, eager):
    make, layer = NETWORKS[name]
    x = SEQUENCES if name == "cell in a loop" else X
    refused(lambda m: fit(m, x), compiled(make(), run_eagerly=eager), layer)


def own_loop(model):
    """A loop with the update in a function of its own."""

    @tf.function
    def update(gradients):
        model.optimizer.apply(gradients, model.trainable_variables)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        update(tape.gradient(loss, model.trainable_variables))

    model.optimizer.build(model.trainable_variables)
    step(X, Y)


@pytest.mark.parametrize(
    ("arguments", "train"),
    [
        ({"steps_per_execution": 3}, fit),
        ({"jit_compile": True}, fit),
        ({}, lambda model: model.train_on_batch(X, Y)),
        ({}, lambda model: fit(model, callbacks=[])),
        ({}, own_loop),
        ({}, lambda model: export_trainer(model, "never written")),
    ],
    ids=["several steps", "xla", "train_on_batch", "no callback", "loop", "export"],
)
def test_layers_that_assign_are_refused_however_one_trains(arguments, train):
    refused(train, compiled(sequential(spectral)(), **arguments), "spectral")


def test_layers_that_assign_are_refused_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    refused(fit, compiled(NETWORKS["keras variable"][0]()), "mine")


@pytest.mark.parametrize("name", ["spectral", "native variable", "function"])
def test_layers_that_assign_are_refused_on_replicas(name):
    make, layer = NETWORKS[name]
    with mirrored(2).scope():
        model = compiled(make())
    refused(fit, model, layer)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.filterwarnings("ignore:The loss has no L2")
def test_layers_that_assign_are_refused_with_stock_optimizers(optimizer):
    model = sequential(spectral)()
    model.compile(optimizer, "mse")
    refused(fit, model, "spectral")


# What is not refused.


def check_identity(model, train=fit, **arguments):
    """Trains, and checks the exact identity over the run."""
    optimizer, snapshot = model.optimizer, Snapshot()
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    theta = arrays(optimizer.weights)
    train(model, callbacks=[FDRCallback(factor=None), snapshot], **arguments)
    record = optimizer.observables.record()
    assert record.steps == 12
    after = snapshot.theta, snapshot.velocity
    centre = zeros(theta)
    bound = rounding_bound(record, after, optimizer, centre)
    assert residual(record, (theta, centre), after, optimizer, centre) < bound


def steps_on_replicas(model, count):
    """Takes steps that are unrolled into one graph."""

    def on_replica(x, y):
        for _ in range(count):
            model.optimizer.mean_over(2)
            model.train_step((x, y))

    @tf.function
    def steps(x, y):
        model.distribute_strategy.run(on_replica, args=(x, y))

    steps(tf.constant(X), tf.constant(Y))


class Sharpness(keras.Model):
    """Takes the gradient at weights that it moves and puts back in `train_step`."""

    def train_step(self, data):
        x, y = data
        theta = [w + 0 for w in self.trainable_variables]
        for weight in self.trainable_variables:
            weight.assign_add(0.01 * keras.ops.sign(weight))
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
            loss = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(loss, self.trainable_variables)
        for weight, value in zip(self.trainable_variables, theta, strict=True):
            weight.assign(value)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


@pytest.mark.parametrize(
    "arguments", [{}, {"jit_compile": True}, {"run_eagerly": True}], ids=str
)
def test_own_step_that_puts_weights_back_is_exact(arguments):
    inputs = keras.Input((6,))
    check_identity(compiled(Sharpness(inputs, dense()(inputs)), **arguments))


def test_own_step_that_puts_weights_back_trains_on_replicas():
    with mirrored(2).scope():
        inputs = keras.Input((6,))
        model = compiled(Sharpness(inputs, dense()(inputs)))
    steps_on_replicas(model, 3)
    assert model.optimizer.observables.record().steps == 3


def test_layers_that_assign_what_is_not_trained_work():
    layers = [
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.1, seed=0),
        keras.layers.SpectralNormalization(dense(6, trainable=False)),
        dense(),
    ]
    model = keras.Sequential([keras.Input((6,)), *layers])
    frozen = model.layers[2].get_weights()[0]
    check_identity(compiled(model))
    assert (model.layers[2].get_weights()[0] != frozen).any()


class Late(keras.Model):
    """Makes its layers when it is first called."""

    def build(self, shape):
        self.hidden, self.out = dense(4), keras.layers.Dense(3)

    def call(self, x):
        return self.out(self.hidden(x))


@pytest.mark.parametrize(
    "arguments",
    [{}, {"steps_per_execution": 3}, {"jit_compile": True}, {"run_eagerly": True}],
    ids=str,
)
def test_layers_that_are_built_in_the_first_step_work(arguments):
    model = compiled(Late(), **arguments)
    fit(model)
    assert model.optimizer.observables.record().steps == 12


def test_steps_unrolled_into_one_graph_work():
    """The updates of the step before are not taken for assignments of layers."""
    with mirrored(2).scope():
        model = compiled(sequential(dense)())

    steps_on_replicas(model, 3)
    assert model.optimizer.observables.record().steps == 3


def test_several_steps_a_call_work_on_replicas():
    with mirrored(2).scope():
        model = compiled(sequential(dense)(), steps_per_execution=3)
    fit(prepare_distributed(model))
    assert model.optimizer.observables.record().steps == 12


def test_eager_model_that_cannot_be_traced_trains():
    class Untraceable(keras.layers.Dense):
        def call(self, x, training=None):
            float(keras.ops.convert_to_numpy(x).sum())
            return super().call(x)

    model = keras.Sequential([Untraceable(3)])
    fit(compiled(model, run_eagerly=True))
    assert model.optimizer.observables.record().steps == 12
