"""Hessian-vector products and the curvature that the noise feels.

Rate of false alarms of the comparisons with enumerated mini-batches: each sees the
mean of 4,000 independent draws, Gaussian to a good approximation, at 4.5 standard
errors, 6.8e-6; the 6 of them fail by chance for at most 5e-5 of all seeds. The seed is
the default, 0.
"""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from intervals import widened
from oracles import LeastSquares

from keras_fdr import FDRSGD, landscape
from keras_fdr.landscape.curvature_sampler import CurvatureSampler

SAMPLES = 4000
FALSE_ALARMS = 6.8e-6

_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(8, 3))
PROBLEM = LeastSquares(X, X @ [2.0, -1.0, 0.5] + _RNG.normal(size=8), l2=0.2)
THETA = np.array([1.0, -1.5, 0.5])  # away from the minimiser
VELOCITY = np.array([0.5, 0.3, -0.7])


# Products with an explicit Hessian.


class Idle(keras.layers.Layer):
    """Holds a weight that no output depends on."""

    def build(self, shape):
        self.unused = self.add_weight(shape=(2,), name="unused")

    def call(self, x):
        return x


def network(loss):
    layers = [
        keras.layers.Dense(4, "tanh", kernel_regularizer=keras.regularizers.L2(0.05)),
        Idle(),
        keras.layers.Dense(4, "tanh", name="frozen"),
        keras.layers.Dense(3, "softmax" if loss != "mse" else None),
    ]
    layers[2].trainable = False
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(optimizer=FDRSGD(l2=0.1), loss=loss, jit_compile=False)
    return model


def objective(model, loss, x, y, weights):
    """f in float64, written out, as a function of the trainable weights."""
    frozen, frozen_bias = map(tf.constant, model.layers[2].get_weights())

    def f(flat):
        w1, b1, _, w2, b2 = (
            tf.reshape(part, w.shape)
            for part, w in zip(
                tf.split(flat, [int(np.prod(w.shape)) for w in weights]),
                weights,
                strict=True,
            )
        )
        hidden = tf.tanh(x @ w1 + b1)
        hidden = tf.tanh(
            hidden @ tf.cast(frozen, "float64") + tf.cast(frozen_bias, "float64")
        )
        out = hidden @ w2 + b2
        if loss == "mse":
            each = tf.reduce_mean((out - y[0]) ** 2, axis=1)
        else:
            each = -tf.gather(tf.math.log_softmax(out), y[0], axis=1, batch_dims=1)
        l2 = 0.05 * tf.reduce_sum(w1**2)
        for w in (w1, b1, w2, b2):
            l2 += 0.1 / 2 * tf.reduce_sum(w**2)
        return tf.reduce_mean(y[1] * each) + l2

    return f


def explicit_hessian(f, flat):
    flat = tf.constant(flat, "float64")
    with tf.GradientTape() as outer:
        outer.watch(flat)
        with tf.GradientTape() as inner:
            inner.watch(flat)
            value = f(flat)
        gradient = inner.gradient(value, flat)
    return outer.jacobian(gradient, flat).numpy()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ["mse", "sparse_categorical_crossentropy"])
def test_product_is_the_explicit_hessian_times_a_vector(loss, weighted, rng):
    """With both kinds of L2, a frozen layer, an unconnected weight, sample weights."""
    x = rng.normal(size=(12, 3)).astype("float32")
    y = rng.integers(3, size=12) if loss != "mse" else rng.normal(size=(12, 3))
    sample_weight = rng.uniform(0.2, 2, size=12) if weighted else np.ones(12)
    model = network(loss)
    data = (x, y, sample_weight) if weighted else (x, y)
    sampler = CurvatureSampler(model, data, 4)
    weights = model.trainable_variables
    flat = np.concatenate([w.numpy().ravel() for w in weights])
    batch = np.array([0, 2, 3, 7, 11])
    y = y[batch], sample_weight[batch]
    f = objective(model, loss, x[batch].astype("float64"), y, weights)
    hessian = explicit_hessian(f, flat)
    for _ in range(3):
        direction = [rng.normal(size=w.shape).astype("float32") for w in weights]
        product = sampler.product(
            tf.constant(batch), [tf.constant(d) for d in direction]
        )
        found = np.concatenate([p.numpy().ravel() for p in product])
        wanted = hessian @ np.concatenate([d.ravel() for d in direction])
        error = np.linalg.norm(found - wanted)
        assert error < 1e-5 * np.linalg.norm(wanted)
        assert not product[2].numpy().any()  # the unconnected weight


def test_recurrent_network(rng):
    """Its own loop over time is inside the loop over draws."""
    layers = [keras.layers.GRU(3), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4, 2)), *layers])
    model.compile(optimizer=FDRSGD(l2=0.1), loss="mse", jit_compile=False)
    data = rng.normal(size=(6, 4, 2)), rng.normal(size=(6, 1))
    found = landscape.noise_curvature(model, data, 6, samples=2)
    assert np.isfinite(found.value)


@pytest.mark.parametrize("use_cudnn", ["auto", False])
def test_recurrent_layers_do_without_cudnn(use_cudnn, rng):
    """Its kernels have no second derivative; whoever trains keeps them."""
    seen = []

    class Recurrent(keras.layers.GRU):
        def call(self, *args, **kwargs):
            seen.append(self.use_cudnn)
            return super().call(*args, **kwargs)

    with keras.saving.custom_object_scope({"Recurrent": Recurrent}):
        layer = keras.layers.Bidirectional(Recurrent(3, use_cudnn=use_cudnn))
    model = keras.Sequential([keras.Input((4, 2)), layer, keras.layers.Dense(1)])
    model.compile(optimizer=FDRSGD(l2=0.1), loss="mse", jit_compile=False)
    data = rng.normal(size=(6, 4, 2)), rng.normal(size=(6, 1))
    sampler = CurvatureSampler(model, data, 6)
    seen.clear()
    sampler.draw(rng, 2)
    assert seen and not any(seen)
    halves = layer.forward_layer, layer.backward_layer
    assert [half.use_cudnn for half in halves] == [use_cudnn] * 2
    seen.clear()
    model(data[0])
    assert set(seen) == {use_cudnn}


# Averages over mini-batches, by enumeration.


def least_squares(optimizer, jit_compile=False):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])

    def half_square(y, y_pred):
        return keras.ops.sum(0.5 * (y - y_pred) ** 2, axis=-1)

    model.compile(optimizer=optimizer, loss=half_square, jit_compile=jit_compile)
    model.set_weights([THETA[:, None]])
    optimizer.build(model.trainable_variables)
    return model, (PROBLEM.x, PROBLEM.y[:, None])


def exact_curvature(size, step=lambda g: g, same_batch=False):
    """E_B[dᵀ H d] with d = step(∇f^B); wrongly with H^B for H if asked for."""
    h, c = PROBLEM.gradients(size)
    d = step(h @ THETA - c)
    hessian = h if same_batch else np.broadcast_to(h.mean(axis=0), h.shape)
    return np.einsum("ai,aij,aj->a", d, hessian, d).mean()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_noise_curvature_is_the_enumerated_one(size):
    model, data = least_squares(FDRSGD(l2=PROBLEM.l2))
    found = landscape.noise_curvature(model, data, size, samples=SAMPLES)
    wide = widened(found, SAMPLES, FALSE_ALARMS)
    assert wide.contains(exact_curvature(size))
    # H of the same batch as the direction would be found, and a loss without L2.
    assert not wide.contains(exact_curvature(size, same_batch=True))


@pytest.mark.parametrize(("mu", "nu"), [(0.0, 0.3), (0.9, 0.0), (0.9, 0.3)])
def test_velocity_curvature_is_the_enumerated_one(mu, nu):
    optimizer = FDRSGD(momentum=mu, dampening=nu, l2=PROBLEM.l2)
    model, data = least_squares(optimizer)
    for velocity in optimizer.velocities:
        velocity.assign(VELOCITY[:, None])
    found = landscape.velocity_curvature(model, data, 2, samples=SAMPLES)
    wide = widened(found, SAMPLES, FALSE_ALARMS)
    known = exact_curvature(2, lambda g: mu * VELOCITY - (1 - nu) * g)
    assert wide.contains(known)
    for wrong in (
        exact_curvature(2, lambda g: mu * VELOCITY - g) if nu else np.inf,
        exact_curvature(2, lambda g: mu * VELOCITY + (1 - nu) * g) if mu else np.inf,
        VELOCITY @ PROBLEM.gradients(8)[0][0] @ VELOCITY,  # v(t) for v(t+1)
    ):
        assert not wide.contains(wrong)


def test_whole_dataset_as_batch_has_no_spread():
    model, data = least_squares(FDRSGD(l2=PROBLEM.l2))
    found = landscape.noise_curvature(model, data, 8, samples=2)
    assert found.value == pytest.approx(exact_curvature(8), rel=1e-5)
    assert found.high - found.low < 1e-4 * found.value


def test_seed_decides_the_draws():
    model, data = least_squares(FDRSGD())
    first, again, other = (
        landscape.noise_curvature(model, data, 2, samples=8, seed=seed)
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_compiled_by_xla_or_not():
    found = []
    for jit_compile in (False, True):
        model, data = least_squares(FDRSGD(l2=PROBLEM.l2), jit_compile)
        found.append(landscape.noise_curvature(model, data, 2, samples=8))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_dataset_is_as_good_as_arrays():
    model, data = least_squares(FDRSGD(l2=PROBLEM.l2))
    batches = tf.data.Dataset.from_tensor_slices(
        tuple(a.astype("float32") for a in data)
    ).batch(3)
    one = landscape.noise_curvature(model, data, 2, samples=8)
    assert landscape.noise_curvature(model, batches, 2, samples=8) == one


def counting_model(traces):
    """A model whose loss notes each trace. Eager calls do not happen here."""

    def half_square(y, y_pred):
        traces.append(1)
        return keras.ops.sum(0.5 * (y - y_pred) ** 2, axis=-1)

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(optimizer=FDRSGD(l2=PROBLEM.l2), loss=half_square, jit_compile=False)
    model.set_weights([THETA[:, None]])
    return model


def test_second_call_does_not_trace():
    """It sees new weights and data. A fresh model with these finds the same."""
    traces, (_, data) = [], least_squares(FDRSGD())
    model, other = counting_model(traces), (data[0][::-1], data[1])
    landscape.noise_curvature(model, data, 2, samples=8)
    assert traces
    traces.clear()
    model.set_weights([2 * THETA[:, None]])
    found = landscape.noise_curvature(model, other, 2, samples=8, seed=3)
    assert not traces
    fresh = counting_model(traces)
    fresh.set_weights([2 * THETA[:, None]])
    assert landscape.noise_curvature(fresh, other, 2, samples=8, seed=3) == found


def test_model_that_is_compiled_again_is_traced_again():
    traces, (_, data) = [], least_squares(FDRSGD())
    model = counting_model(traces)
    before = landscape.noise_curvature(model, data, 8, samples=2)
    model.compile(optimizer=FDRSGD(), loss="mse", jit_compile=False)
    after = landscape.noise_curvature(model, data, 8, samples=2)
    h, c = PROBLEM.x.T @ PROBLEM.x / 8, PROBLEM.x.T @ PROBLEM.y / 8
    # The new loss is twice the old one without its L2.
    g = 2 * (h @ THETA - c)
    assert after.value == pytest.approx(g @ (2 * h) @ g, rel=1e-4) != before.value


def test_compiled_function_does_not_keep_a_model_alive():
    model, data = least_squares(FDRSGD())
    landscape.noise_curvature(model, data, 2, samples=2)
    gone = weakref.ref(model), weakref.ref(model.trainable_variables[0])
    del model
    gc.collect()
    assert [one() for one in gone] == [None, None]


def test_curvature_does_not_change_what_is_saved(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer=FDRSGD(), loss="mse")
    data = PROBLEM.x, PROBLEM.y[:, None]
    landscape.noise_curvature(model, data, 2, samples=2)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    found = [landscape.noise_curvature(m, data, 2, samples=2) for m in (model, again)]
    assert found[0] == found[1]


def test_batch_size_is_that_of_a_sweep_unless_given():
    model, (x, y) = least_squares(FDRSGD(l2=PROBLEM.l2))
    data = np.tile(x, (25, 1)), np.tile(y, (25, 1))
    given = landscape.noise_curvature(model, data, 100, samples=4)
    assert landscape.noise_curvature(model, data, samples=4) == given
    assert landscape.noise_curvature(model, data, 50, samples=4) != given


def test_noise_curvature_needs_no_measuring_optimizer():
    model, data = least_squares(keras.optimizers.SGD())
    assert landscape.noise_curvature(model, data, 2, samples=4).value > 0


def test_model_is_left_as_it_was(rng):
    x, y = rng.normal(size=(12, 3)), rng.normal(size=(12, 1))
    layers = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
    layers += [keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(optimizer=FDRSGD(momentum=0.9), loss="mse", metrics=["mae"])
    model.fit(x, y, batch_size=4, verbose=0)
    variables = [
        *model.variables,
        *model.metrics_variables,
        *model.optimizer.variables,
        *model.optimizer.observables.variables,
    ]
    before = [v.numpy() for v in variables]
    landscape.velocity_curvature(model, (x, y), 4, samples=4)
    for old, variable in zip(before, variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())


@pytest.mark.parametrize("samples", [0, 1])
def test_samples_below_2_are_refused(samples):
    model, data = least_squares(FDRSGD())
    with pytest.raises(ValueError, match="samples"):
        landscape.noise_curvature(model, data, 2, samples=samples)


@pytest.mark.parametrize("batch_size", [0, -1, 9])
def test_batch_size_out_of_range_is_refused(batch_size):
    model, data = least_squares(FDRSGD())
    with pytest.raises(ValueError, match=f"batch_size.*batch_size={batch_size}"):
        landscape.noise_curvature(model, data, batch_size)


@pytest.mark.parametrize(
    "curvature", [landscape.noise_curvature, landscape.velocity_curvature]
)
@pytest.mark.parametrize(
    ("name", "values", "error"),
    [
        ("batch_size", (None, 2.5, "a", True, [2]), TypeError),
        ("samples", (None, 2.5, float("nan"), "4", True), TypeError),
        ("seed", (None, "x", 1.5, [1], True), TypeError),
        ("seed", (-1,), ValueError),
    ],
)
def test_numbers_of_another_type_are_refused(curvature, name, values, error):
    """The message has the argument's name and the value."""
    model, data = least_squares(FDRSGD())
    for value in values:
        with pytest.raises(error, match=f"`{name}` must be an integer") as caught:
            curvature(model, data, **{"batch_size": 2, name: value})
        assert str(caught.value).endswith(f"Received: {name}={value!r}")


def test_velocity_curvature_needs_the_measuring_optimizer():
    model, data = least_squares(keras.optimizers.SGD())
    with pytest.raises(ValueError, match="velocity_curvature.*FDRSGD"):
        landscape.velocity_curvature(model, data, 2)


def test_something_else_for_a_dataset_is_refused():
    model, _ = least_squares(FDRSGD())
    with pytest.raises(TypeError, match="dataset"):
        landscape.noise_curvature(model, PROBLEM.x, 2)


@pytest.mark.parametrize(
    "curvature", [landscape.noise_curvature, landscape.velocity_curvature]
)
def test_something_else_for_a_model_is_refused(curvature):
    _, data = least_squares(FDRSGD())
    with pytest.raises(TypeError, match="model.*str"):
        curvature("model", data, 2)
