"""FullBatchPass against one big batch and formulas written out by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from full_batch_cases import (
    CASES,
    STRATEGIES,
    Case,
    batches,
    big_batch,
    compiled,
    cross_entropy,
    difference,
    first,
    labelled,
    norm,
    precision,
    random_network,
    weighted,
)
from sklearn.metrics import accuracy_score

from keras_fdr.full_batch.passes import FullBatchPass

CASE = {case.name: case for case in CASES}
# 97 leaves a batch of one example, which is none for the second replica.
EXAMPLES = [(name, 97) for name in CASE] + [
    (name, n)
    for name in ("classification", "l2_in_both", "masked_words", "two_outputs_dicts")
    for n in (91, 96)
]


def twin(case, model):
    """The same function outside the strategy, for the formula."""
    twin = case.model()
    twin.set_weights(model.get_weights())
    return twin


@STRATEGIES
@pytest.mark.parametrize("name, n", EXAMPLES)
def test_equals_one_big_batch(name, n, strategy):
    case = CASE[name]
    with precision(case.policy):
        model = compiled(case, strategy())
        data = case.data(n)
        result = FullBatchPass(model, batches(data))(gradient=True)
        other = twin(case, model)
        f, gradient = big_batch(case, other, data)
        starts = range(0, n, 32)
        parts = [big_batch(case, other, first(data, i, i + 32)) for i in starts]
        # ∇f itself cancels near a minimum.
        scale = np.mean([norm(part) for _, part in parts])
        assert result.examples == n
        assert result.loss == pytest.approx(f, rel=case.tolerance)
        assert norm(difference(result.gradient, gradient)) < case.tolerance * scale
        if case.uneven:
            shares = [min(32, n - i) / n for i in starts]
            assert abs(np.dot(shares, [part for part, _ in parts]) / f - 1) > 0.1


def test_half_precision_neither_overflows_nor_underflows():
    """Sums over a batch leave the range of float16 where the means of `fit` do not."""
    case = CASE["double"]
    with precision("mixed_float16"):
        x = np.random.default_rng(0).uniform(0, 1, (1000, 8)).astype("float32")
        for scale in (1e-4, 300):
            model = compiled(case, tf.distribute.get_strategy())
            y = model.predict(x, verbose=0).astype("float32") - scale
            result = FullBatchPass(model, (x, y))(gradient=True)
            bias = result.gradient[-1].numpy()
            # ∂/∂b of the mean of (ŷ − y)² is 2 (ŷ − y).
            assert bias == pytest.approx(2 * scale, rel=0.01)


def ragged(data):
    """Unequal batches of a dataset that does not know how many it has."""
    signature = batches(data).element_spec

    def generate():
        for start, stop in ((0, 40), (40, 41), (41, 41), (41, 90), (90, 97)):
            yield first(data, start, stop)

    return tf.data.Dataset.from_generator(generate, output_signature=signature)


@pytest.fixture(scope="module")
def reference():
    case = CASE["sample_weights"]
    keras.utils.set_random_seed(0)
    model = compiled(case, tf.distribute.get_strategy())
    return model, case.data(97), *big_batch(case, model, case.data(97))


@pytest.mark.parametrize(
    "cut",
    [
        lambda data: data,
        lambda data: batches(data, 1),
        lambda data: batches(data, 7),
        lambda data: batches(data, 97),
        lambda data: batches(data, 1000),
        ragged,
    ],
    ids=["arrays", "1", "7", "all", "more_than_all", "ragged"],
)
def test_does_not_depend_on_the_batches(reference, cut):
    model, data, f, gradient = reference
    result = FullBatchPass(model, cut(data))(gradient=True)
    assert (result.examples, result.loss) == (97, pytest.approx(f, rel=1e-6))
    assert norm(difference(result.gradient, gradient)) < 1e-6 * norm(gradient)


def test_arrays_in_lists():
    """tf.data would stack the arrays of a list into one."""
    x, (a, b) = CASE["two_outputs_lists"].data(97)
    w = [np.linspace(0, 1, 97).astype("float32"), np.linspace(3, 2, 97, dtype="f4")]
    model = compiled(CASE["two_outputs_lists"], tf.distribute.get_strategy())
    out = model.predict(x, verbose=0)
    f = 0.3 * np.mean(w[0] * cross_entropy(a, out[0]))
    f += 2 * np.mean(w[1] * np.square(out[1] - b)[:, 0])
    for data in ((x, (a, b), tuple(w)), (x, (a, b), w), (x, [a, b], w)):
        assert FullBatchPass(model, data)().loss == pytest.approx(f, rel=1e-6)


@pytest.mark.xla
@pytest.mark.parametrize("name", ["l2_in_both", "masked_words"])
def test_compiled_by_xla(name):
    case = CASE[name]
    model = compiled(case, tf.distribute.get_strategy(), jit_compile=True)
    result = FullBatchPass(model, batches(case.data(97)))(gradient=True)
    f, gradient = big_batch(case, model, case.data(97))
    assert result.loss == pytest.approx(f, rel=1e-6)
    assert norm(difference(result.gradient, gradient)) < 1e-6 * norm(gradient)


@STRATEGIES
def test_metrics_over_the_whole_dataset(strategy):
    case = CASE["sample_weights"]
    model = compiled(
        case, strategy(), metrics=["accuracy"], weighted_metrics=["accuracy"]
    )
    x, y, w = weighted(97)
    full_pass = FullBatchPass(model, batches((x, y, w)))
    metrics = full_pass().metrics
    predicted = model.predict(x, verbose=0).argmax(-1)
    assert metrics == {
        "accuracy": pytest.approx(accuracy_score(y, predicted)),
        "weighted_accuracy": pytest.approx(
            accuracy_score(y, predicted, sample_weight=w)
        ),
    }
    assert full_pass.metric_names == list(metrics)


@STRATEGIES
@pytest.mark.parametrize("name", ["two_outputs_dicts", "one_of_two_outputs_masked"])
def test_each_loss_is_a_metric(name, strategy):
    """Without its weight, and with a denominator of its own."""
    case = CASE[name]
    model = compiled(case, strategy())
    metrics = FullBatchPass(model, batches(case.data(97)))().metrics
    first_loss, second_loss = metrics.values()
    assert list(metrics) == [f"{name}_loss" for name in model.output_names]
    other = twin(case, model)
    f, _ = big_batch(case, other, case.data(97))
    assert 0.3 * first_loss + 2 * second_loss == pytest.approx(f, rel=1e-6)
    x, y = case.data(97)
    (*_, y) = y.values() if isinstance(y, dict) else y
    squares = np.square(other.predict(x, verbose=0)[1] - y)
    assert second_loss == pytest.approx(squares.mean(), rel=1e-5)


@STRATEGIES
def test_compiles_once_and_follows_the_weights(strategy):
    case = CASE["classification"]
    strategy = strategy()
    model = compiled(case, strategy, keras.optimizers.SGD)
    data = case.data(97)
    full_pass = FullBatchPass(model, batches(data))
    losses, counts = [], []
    for _ in range(3):
        result = full_pass(gradient=True)
        f, gradient = big_batch(case, twin(case, model), data)
        assert result.loss == pytest.approx(f, rel=1e-6)
        assert norm(difference(result.gradient, gradient)) < 1e-5 * norm(gradient)
        losses.append(result.loss)
        functions = full_pass._advance, full_pass._batch, full_pass._finish
        counts.append([f.experimental_get_tracing_count() for f in functions])
        # Builds the optimizer the first time.
        model.fit(*data, epochs=2, verbose=0)
    assert len(set(losses)) == 3
    assert counts[0] == counts[1] == counts[2]


def test_frozen_after_compile_still_counts():
    """As in `fit`, which trains what the optimizer was built for."""
    case = CASE["l2_in_optimizer"]
    model = compiled(case, tf.distribute.get_strategy())
    x, y = data = case.data(97)
    model.train_on_batch(x, y)
    weights = model.trainable_variables
    other = twin(case, model)
    model.layers[0].trainable = False
    full_pass = FullBatchPass(model, data)
    f, gradient = big_batch(case, other, data)
    assert [w.path for w in full_pass.weights] == [w.path for w in weights]
    assert full_pass().loss == pytest.approx(f, rel=1e-6)
    error = difference(full_pass(gradient=True).gradient, gradient)
    assert norm(error) < 1e-6 * norm(gradient)


def test_weights_are_those_of_the_gradient_whenever_frozen():
    case = CASE["classification"]
    model = compiled(case, tf.distribute.get_strategy())
    full_pass = FullBatchPass(model, case.data(97))
    full_pass()
    model.layers[0].trainable = False
    # Builds the optimizer, now for fewer weights than the pass was compiled for.
    model.fit(*case.data(97), verbose=0)
    gradient = full_pass(gradient=True).gradient
    assert [g.shape for g in gradient] == [w.shape for w in full_pass.weights]


def test_frozen_before_compile_does_not():
    def frozen():
        model = random_network(kernel_regularizer="l2")
        model.layers[0].trainable = False
        return model

    case = Case("frozen", model=frozen)
    model = compiled(case, tf.distribute.get_strategy())
    result = FullBatchPass(model, case.data(97))(gradient=True)
    f, gradient = big_batch(case, model, case.data(97))
    assert result.loss == pytest.approx(f, rel=1e-6)
    assert norm(difference(result.gradient, gradient)) < 1e-6 * norm(gradient)


def test_fields():
    case = CASE["unused_weight"]
    model = compiled(case, tf.distribute.get_strategy())
    full_pass = FullBatchPass(model, batches(labelled(97)))
    result = full_pass(gradient=True)
    assert full_pass().gradient is None
    assert [g.shape for g in result.gradient] == [w.shape for w in full_pass.weights]
    assert all(a is b for a, b in zip(full_pass.weights, model.weights, strict=True))
    assert result.gradient_norm == result.gradient_norm_squared**0.5
    assert result.gradient_norm == pytest.approx(norm(result.gradient), rel=1e-6)
    # The second head has no loss.
    assert norm(result.gradient[2:]) == 0 < norm(result.gradient[:2])


class PerColumn(keras.metrics.Metric):
    """The mean absolute error of each output by itself."""

    def __init__(self, columns):
        super().__init__(name="per_column")
        self.total = self.add_variable((columns,), "zeros", name="total")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        error = keras.ops.abs(y_true - y_pred)
        self.total.assign_add(keras.ops.sum(error, axis=0))
        self.count.assign_add(keras.ops.cast(keras.ops.shape(error)[0], "float32"))

    def result(self):
        return self.total / self.count


@pytest.mark.parametrize("columns", [2, 3])
def test_metrics_that_are_vectors(columns):
    rng = np.random.default_rng(columns)
    x = rng.normal(size=(50, 4)).astype("float32")
    y = rng.normal(size=(50, columns)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(columns)])
    model.compile("sgd", loss="mse", metrics=[PerColumn(columns)])
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    value = FullBatchPass(model, dataset)().metrics["per_column"]
    kernel, bias = model.get_weights()
    assert value.shape == (columns,)
    np.testing.assert_allclose(value, abs(x @ kernel + bias - y).mean(0), rtol=1e-5)


@STRATEGIES
def test_memory_does_not_grow_with_the_batches(strategy):
    case = CASE["masked_words"]
    model = compiled(case, strategy())
    data = case.data(96)
    sizes = {}
    for count in (3, 300):
        full_pass = FullBatchPass(model, batches(data, 3).repeat().take(count))
        assert full_pass().examples == 3 * count
        sizes[count] = [tuple(total.shape) for total in full_pass._totals.variables]
    assert sizes[3] == sizes[300]
    # Two copies of the gradient, and scalars.
    parameters = model.count_params()
    assert sum(np.prod(s) for s in sizes[300] if s) <= 2 * parameters
