"""Intervals over repetitions and what `fit` reads from a table, on made-up numbers.

The coverage tests simulate 2,000 repetitions, whose share has a standard deviation of
0.5% at 95%: each of the five misses [93%, 97%] by chance with 4e-5. The seed was chosen
once.
"""

import numpy as np
import pytest
from landscape_cases import table
from scipy import stats

from keras_fdr import landscape
from keras_fdr.landscape.estimates import Estimate, mean, ratio

COVERAGES = (0.93, 0.97)


def test_mean_has_students_interval(rng):
    for n in (2, 3, 10, 200):
        values = rng.normal(3, 2, size=n)
        error = stats.sem(values)
        low, high = stats.t.interval(0.95, n - 1, values.mean(), error)
        assert mean(values) == pytest.approx((values.mean(), low, high))


def test_ratio_is_the_jackknife(rng):
    a, b = rng.uniform(1, 2, size=(2, 7))
    whole = a.mean() / b.mean()
    pseudo = []
    for i in range(7):
        others = np.arange(7) != i
        pseudo.append(7 * whole - 6 * a[others].mean() / b[others].mean())
    assert ratio(a, b) == pytest.approx(mean(pseudo))


def test_ratio_to_a_constant_is_a_mean(rng):
    a = rng.normal(size=5)
    assert ratio(a, np.full(5, 4.0)) == pytest.approx(mean(a / 4))


@pytest.mark.parametrize("repetitions", [4, 20])
def test_mean_covers(rng, repetitions):
    estimates = [mean(v) for v in rng.normal(1, 2, size=(2000, repetitions))]
    share = np.mean([e.contains(1.0) for e in estimates])
    assert COVERAGES[0] < share < COVERAGES[1], share


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.9])
def test_ratio_of_correlated_means_covers(rng, correlation):
    covariance = 0.2**2 * np.array([[1, correlation], [correlation, 1]])
    pairs = rng.multivariate_normal([3, 2], covariance, size=(2000, 8))
    share = np.mean([ratio(*pair.T).contains(1.5) for pair in pairs])
    assert COVERAGES[0] < share < COVERAGES[1], share


def test_jackknife_removes_the_bias_of_a_ratio(rng):
    """E[a/b̄] − 1 is Var(b̄) = 1/16 to leading order; 4e5 ratios resolve 5e-4."""
    b = rng.normal(1, 0.5, size=(20_000, 4)).clip(0.2)
    b /= b.mean()
    naive = np.mean(1 / b.mean(axis=1)) - 1
    assert naive > 0.03
    found = np.mean([ratio(np.ones(4), row).value for row in b]) - 1
    assert abs(found) < naive / 3


@pytest.mark.parametrize("estimate", [mean([2.0]), ratio([4.0], [2.0])])
def test_one_repetition_has_a_value_but_no_interval(estimate):
    assert estimate.value == 2
    assert np.isnan(estimate.low) and np.isnan(estimate.high)
    assert not estimate.contains(2.0)


def test_estimate_contains_its_ends():
    estimate = Estimate(2.0, 1.0, 4.0)
    assert all(map(estimate.contains, (1.0, 2.0, 4.0)))
    assert not estimate.contains(0.99) and not estimate.contains(4.01)
    assert str(estimate) == "2 [1, 4]"


# `fit`.


@pytest.mark.parametrize(
    ("mu", "nu"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.4), (0.9, 0.3), (0.5, 0.9)]
)
def test_proportional_dissipation_gives_the_curvature(mu, nu):
    """O_FB = a η: no nonlinearity, and Tr(HC̃) = 2 (1−μ²)/(1−ν)² a."""
    found = landscape.fit(table(o_fb=lambda rate, _: 3 * rate, mu=mu, nu=nu))
    noise = 2 * (1 - mu**2) / (1 - nu) ** 2 * 3
    for estimate, value in (
        (found.slope, 3),
        (found.velocity_curvature, 6),
        (found.noise_curvature, noise),
        (found.direct_noise_curvature, 7),
        (found.gradient_second_moment, 2),
        (found.hessian_magnitude, noise / 2),
        *((n, 0) for n in found.nonlinearity),
        *((r, 0) for r in found.residual),
        *((d, 0) for d in found.drift),
        *((r, 0.9) for r in found.ratio),
    ):
        assert estimate == pytest.approx((value, value, value), abs=1e-9)
    assert found.seeds == 3 and found.mode == "independent"
    assert found.learning_rates == (0.1, 0.2, 0.3, 0.4)
    for rate, estimate in zip(
        found.learning_rates, found.full_batch_dissipation, strict=True
    ):
        assert estimate.value == pytest.approx(3 * rate)


def test_limit_is_the_intercept_at_the_three_smallest_learning_rates():
    """O_FB/η and Tr C̃ linear in η up to 0.3; what comes at 0.4 has no influence."""
    found = landscape.fit(
        table(
            rates=(0.4, 0.3, 0.1, 0.2),  # ascending or not
            o_fb=lambda rate, _: rate * (3 + 5 * rate) if rate < 0.35 else 99.0,
            noise_curvature=lambda rate, _: 7 - rate if rate < 0.35 else 99.0,
            second_moment=lambda rate, _: 2 + rate if rate < 0.35 else 99.0,
        )
    )
    assert found.noise_curvature.value == pytest.approx(6)
    assert found.velocity_curvature.value == pytest.approx(6)
    assert found.direct_noise_curvature.value == pytest.approx(7)
    assert found.gradient_second_moment.value == pytest.approx(2)
    assert found.hessian_magnitude.value == pytest.approx(3)
    assert found.slope.value == pytest.approx(3.5)  # at the smallest, no limit
    assert found.nonlinearity[1].value == pytest.approx(4 / 3.5 - 1)
    for rate in ("0.1", "0.2", "0.3"):
        assert rate in found.extrapolation
    assert "0.4" not in found.extrapolation


def test_two_learning_rates_make_a_line():
    found = landscape.fit(
        table(rates=(0.1, 0.2), o_fb=lambda rate, _: rate * (3 + 5 * rate))
    )
    assert found.noise_curvature.value == pytest.approx(6)


def test_one_learning_rate_is_not_extrapolated():
    found = landscape.fit(table(rates=(0.1,), o_fb=lambda *_: 0.35))
    assert found.noise_curvature.value == pytest.approx(7)
    assert "not extrapolated" in found.extrapolation and "0.1" in found.extrapolation


def test_intervals_are_over_seeds():
    """Each seed's own limit is one value; the ratio is of means, not of seeds."""
    slopes = {0: 3.0, 1: 5.0, 2: 4.5}
    found = landscape.fit(
        table(
            o_fb=lambda rate, seed: slopes[seed] * rate + rate**2,
            second_moment=lambda rate, seed: 1.0 + seed,
        )
    )
    values = np.array(list(slopes.values()))
    assert found.noise_curvature == pytest.approx(mean(2 * values))
    assert found.slope == pytest.approx(mean(values + 0.1))
    assert found.hessian_magnitude == pytest.approx(ratio(2 * values, [1, 2, 3]))


def test_one_seed_gives_no_verdict():
    found = landscape.fit(table(seeds=(5,)))
    assert found.seeds == 1
    assert found.noise_curvature.value == pytest.approx(6)
    for estimate in (found.noise_curvature, found.slope, *found.residual):
        assert np.isnan(estimate.low)
    assert found.verdict.startswith("No verdict")
    assert found.harmonic_up_to is None and found.anharmonic_from is None


def test_incomplete_seeds_are_left_out():
    results = table(o_fb=lambda rate, seed: rate * (3 if seed < 2 else 1000))
    del results.rows[-1]
    found = landscape.fit(results)
    assert found.seeds == 2
    assert found.slope.value == pytest.approx(3)


def test_learning_rate_that_came_twice_is_averaged():
    o_fb = iter([0.2, 0.0, 0.4, 0.0, 0.6, 0.0] * 2)
    results = table((0.1, 0.2, 0.1), seeds=(0, 1), o_fb=lambda *_: next(o_fb))
    assert results.learning_rates == [0.1, 0.2]
    expected = [[0.4, 0.4]] * 2
    np.testing.assert_allclose(results.column("full_batch_dissipation"), expected)
    assert landscape.fit(results).slope.value == pytest.approx(4)
