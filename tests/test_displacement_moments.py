"""The form of FDR1 for any optimizer against the exact moments of linear optimizers.

On the least-squares problem of `measure_chains` all 15 mini-batches of two examples are
enumerated, so the stationary averages of O_L and O_R are known exactly for Keras' SGD,
with and without momentum, and in Nesterov's form.

The measured averages are means over 200 independent chains. A mean that is right is
more than 4 of its standard errors off in 0.009% of cases (Student's t, 199 degrees of
freedom), which the twelve comparisons make 0.11% at most. The seed was chosen once.
"""

import keras
import numpy as np
import pytest
from displacement_moments import DisplacementMoments
from measure_chains import BATCH, Chains, problem
from oracles import LeastSquares, StationaryMoments
from scipy import stats

CHAINS, BURN_IN, STEPS = 200, 400, 800
LIMIT = 4  # standard errors

# η, μ and whether the step has Nesterov's form.
CASES = {
    "SGD": (0.1, 0.0, False),
    "SGD, large rate": (0.3, 0.0, False),
    "momentum": (0.05, 0.9, False),
    "momentum, large rate": (0.1, 0.9, False),
    "Nesterov": (0.05, 0.9, True),
    "Nesterov, large rate": (0.1, 0.9, True),
}
each_case = pytest.mark.parametrize("case", CASES)


def columns():
    """The two columns of a chain's weights, each a problem with the same batches."""
    x, y = problem()
    return [LeastSquares(x, column) for column in y.T]


def exact(eta, mu, nesterov, beta):
    """⟨O_L⟩ and ⟨O_R⟩ of one chain: the sums over its columns."""
    both = [DisplacementMoments(c, eta, mu, nesterov, BATCH) for c in columns()]
    left = sum(moments.dissipation(beta) for moments in both)
    return np.array([left, sum(moments.fluctuation(beta) for moments in both)])


@each_case
@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_sides_are_equal_with_every_memory_and_center(case, beta):
    eta, mu, nesterov = CASES[case]
    left, right = exact(eta, mu, nesterov, beta)
    assert left == pytest.approx(right, rel=1e-9)
    moments = DisplacementMoments(columns()[0], eta, mu, nesterov, BATCH)
    for theta_c in (0.0, np.array([3.0, -1.0])):
        off = moments.dissipation(beta, theta_c)
        assert off == pytest.approx(moments.fluctuation(beta), rel=1e-9)


@each_case
def test_sgd_gives_the_moments_of_the_paper(case):
    """Equation (17) where β = μ, and something else in Nesterov's form."""
    eta, mu, nesterov = CASES[case]
    for column in columns():
        paper = StationaryMoments(column, eta, mu, 0.0, BATCH)
        ours = DisplacementMoments(column, eta, mu, nesterov, BATCH)
        expected = pytest.approx(paper.fluctuation, rel=1e-9)
        assert (ours.fluctuation(mu) == expected) != nesterov
        assert (ours.dissipation(mu) == expected) != nesterov


@pytest.mark.statistics
@each_case
def test_measured_averages_are_the_exact_moments(case):
    eta, mu, nesterov = CASES[case]
    optimizer = keras.optimizers.SGD(eta, momentum=mu, nesterov=nesterov)
    chains = Chains(optimizer, CHAINS, seed=7)
    assert chains.measured.observables.beta == mu
    chains.run(BURN_IN)
    chains.restart()
    chains.run(STEPS)
    means = chains.means()
    error = means.std(axis=0, ddof=1) / np.sqrt(CHAINS)
    expected = exact(eta, mu, nesterov, mu)
    off = (means.mean(axis=0) - expected) / error
    assert np.abs(off).max() < LIMIT, f"standard errors off: {off}"
    # The errors are small enough for a wrong formula to show.
    assert (error < 0.02 * expected).all()
    if "large" in case and mu:
        other = exact(eta, mu, not nesterov, mu)
        assert abs(other[1] - expected[1]) > 10 * error[1]


@each_case
def test_start_is_forgotten(case):
    """What is left of the start after the burn-in, in its slowest direction."""
    eta, mu, nesterov = CASES[case]
    for column in columns():
        moments = DisplacementMoments(column, eta, mu, nesterov, BATCH)
        for order in (1, 2):
            radius = np.abs(np.linalg.eigvals(moments.power_mean(order))).max()
            assert radius**BURN_IN < 1e-6


@each_case
def test_observables_have_a_variance(case):
    """Fourth moments are finite, so that the chains' means have a standard error."""
    eta, mu, nesterov = CASES[case]
    for column in columns():
        moments = DisplacementMoments(column, eta, mu, nesterov, BATCH)
        assert np.abs(np.linalg.eigvals(moments.power_mean(4))).max() < 1


def test_rate_of_false_alarms():
    assert 2 * len(CASES) * 2 * stats.t.sf(LIMIT, CHAINS - 1) < 1.2e-3
