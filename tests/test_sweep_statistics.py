"""What a sweep finds in least squares is FDR2 with exact numbers.

Mini-batches of 30 examples can be enumerated, so every stationary average is known
(`oracles`). CHAINS copies of the problem are the rows of one weight tensor, each
numbering the examples in its own way, so every copy draws each mini-batch equally
often, and one sweep of the real optimizer measures the sum over the copies.

Rate of false alarms. A seed's value is an average over 8 passes and 512 copies,
Gaussian to a good approximation, so means over seeds follow Student's t. The 40
comparisons with exact numbers use the quantile at 1e-3/40, so together they fail by
chance for at most 0.1% of all seeds, whatever their dependence. The other tests state
their own rates. Seeds are 0, 1, 2, …, taken once.
"""

from functools import cache

import keras
import numpy as np
import pytest
from fdr2_cases import (
    BATCH_SIZE,
    EXAMPLES,
    PROBLEM,
    Case,
    exact,
    exact_limit,
    truncation,
)
from intervals import widened
from oracles import LeastSquares

from keras_fdr import FDRSGD, landscape
from keras_fdr.landscape.estimates import mean, ratio

pytestmark = pytest.mark.statistics

CHAINS = 512
SEEDS = 12
EPOCHS = 16
COMPARISONS = 40
FALSE_ALARMS = 1e-3 / COMPARISONS

CASES = [
    Case(0.0, 0.0, (0.05, 0.1, 0.2)),
    Case(0.5, 0.3, (0.06, 0.12, 0.24)),
    Case(0.8, 0.6, (0.2, 0.3)),
    Case(0.9, 0.0, (0.05, 0.1)),
]
each_case = pytest.mark.parametrize("case", CASES, ids=str)


class Rows(keras.layers.Layer):
    """One least-squares model for each row of the weights."""

    def build(self, shape):
        self.theta = self.add_weight(shape=shape[1:], name="theta")

    def call(self, x):
        return keras.ops.sum(x * self.theta, axis=-1)


def half_squares(y, y_pred):
    return keras.ops.sum(0.5 * (y - y_pred) ** 2, axis=-1)


def many_copies(problem, optimizer, chains):
    """A model of independent copies of `problem`, at its minimiser, and its data."""
    examples, p = problem.x.shape
    numbering = np.tile(np.arange(examples), (chains, 1))
    numbering = np.random.default_rng(0).permuted(numbering, axis=1).T
    model = keras.Sequential([keras.Input((chains, p)), Rows()])
    model.compile(optimizer=optimizer, loss=half_squares, jit_compile=False)
    model.set_weights([np.tile(problem.minimiser, (chains, 1))])
    return model, (problem.x[numbering], problem.y[numbering])


@cache
def measured(case):
    optimizer = FDRSGD(momentum=case.mu, dampening=case.nu, l2=PROBLEM.l2)
    model, data = many_copies(PROBLEM, optimizer, CHAINS)
    stages = [(rate, EPOCHS) for rate in reversed(case.rates)]
    return landscape.sweep(
        model,
        data,
        stages,
        seeds=SEEDS,
        batch_size=BATCH_SIZE,
        initial=stages[0],
        verbose=0,
    )


def per_copy(case, name):
    """Shape (seeds, learning rates)."""
    return measured(case).column(name) / CHAINS


@each_case
def test_both_sides_of_fdr2_are_the_exact_moments(case):
    for j, rate in enumerate(case.rates):
        left = per_copy(case, "full_batch_dissipation")[:, j]
        right = rate / 2 * per_copy(case, "velocity_curvature")[:, j]
        moments = exact(case, rate)
        value = moments.full_batch_dissipation
        for side in (left, right):
            assert widened(mean(side), SEEDS, FALSE_ALARMS).contains(value), rate
        assert widened(mean(left - right), SEEDS, FALSE_ALARMS).contains(0.0), rate
        noise = mean(per_copy(case, "noise_curvature")[:, j])
        known = moments.noise_curvature
        assert widened(noise, SEEDS, FALSE_ALARMS).contains(known), rate


@each_case
def test_formula_of_the_paper_without_the_half_is_rejected(case):
    """By the same data at the same rate of false alarms: an erratum of eq. (29)."""
    for j, rate in enumerate(case.rates):
        left = per_copy(case, "full_batch_dissipation")[:, j]
        right = rate * per_copy(case, "velocity_curvature")[:, j]
        assert widened(mean(left - right), SEEDS, FALSE_ALARMS).high < 0, rate


@each_case
def test_start_is_forgotten(case):
    """A stage from rest at the minimiser, which is far from stationary in O_FB."""
    steps = EPOCHS * (EXAMPLES // BATCH_SIZE)
    for j, rate in enumerate(case.rates):
        moments = exact(case, rate)
        run = moments.from_start(PROBLEM.minimiser, steps)
        bias = run.full_batch_dissipation - moments.full_batch_dissipation
        found = mean(per_copy(case, "full_batch_dissipation")[:, j])
        assert abs(bias) < 0.2 * (found.high - found.low), rate


def test_every_comparison_is_counted():
    assert sum(4 * len(case.rates) for case in CASES) == COMPARISONS


@pytest.mark.parametrize("case", CASES[:2], ids=str)
def test_fit_finds_the_exact_limit(case):
    """Three intervals at 1e-3; the straight line is good enough for that."""
    found = landscape.fit(measured(case))
    noise = widened(found.noise_curvature, SEEDS, 1e-3)
    assert noise.contains(CHAINS * exact_limit())
    assert abs(truncation(case)) < 0.1 * (noise.high - noise.low) / CHAINS
    direct = widened(found.direct_noise_curvature, SEEDS, 1e-3)
    assert direct.contains(CHAINS * exact_limit())
    velocity = widened(found.velocity_curvature, SEEDS, 1e-3)
    to_velocity = (1 - case.nu) ** 2 / (1 - case.mu**2)
    assert velocity.contains(CHAINS * to_velocity * exact_limit())


# Shuffled epochs.

MANY_BATCHES = LeastSquares(np.ones((40, 1)), np.linspace(-2, 2, 40), l2=0.0)


@pytest.mark.parametrize(("mu", "rate"), [(0.0, 0.01), (0.9, 0.001)])
def test_shuffled_epochs_make_the_dissipation_too_small(mu, rate):
    """One dimension, 40 batches an epoch, η/(1−μ) = 0.01: noise that cancels.

    Over an epoch the noises add up to 0, so at its end θ is far closer to the
    minimiser than with independent batches. At 1e-3 for each of the four intervals.
    """
    found = {}
    for mode in ("paper", "independent"):
        optimizer = FDRSGD(momentum=mu)
        model, data = many_copies(MANY_BATCHES, optimizer, 512)
        results = landscape.sweep(
            model, data, [(rate, 24)], seeds=6, batch_size=1, mode=mode, verbose=0
        )
        left = results.column("full_batch_dissipation")[:, 0]
        right = rate / 2 * results.column("velocity_curvature")[:, 0]
        found[mode] = widened(ratio(left, right), 6, 1e-3)
        assert results.settings["mode"] == landscape.fit(results).mode == mode
    assert found["paper"].high < 0.8
    assert found["independent"].contains(1.0)


# A network, where no exact number is known.


def test_curvature_of_a_network_from_gradients_and_from_hessians_agree(digits):
    """At a small η FDR2 and Hessian-vector products find the same Tr(HC̃).

    At 1e-3, with an interval that would show a factor of 2.
    """
    x, y = digits
    layers = [
        keras.layers.Dense(8, activation="tanh"),
        keras.layers.Dense(10, activation="softmax"),
    ]
    model = keras.Sequential([keras.Input((64,)), *layers])
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer=FDRSGD(l2=0.05), loss=loss, jit_compile=False)
    results = landscape.sweep(
        model, (x, y), [(0.2, 50)], seeds=8, batch_size=5, initial=(0.3, 30), verbose=0
    )
    from_gradients = 2 / 0.2 * results.column("full_batch_dissipation")[:, 0]
    directly = results.column("noise_curvature")[:, 0]
    agreement = widened(ratio(from_gradients, directly), 8, 1e-3)
    assert agreement.contains(1.0)
    assert agreement.low > 0.6 and agreement.high < 1.6
