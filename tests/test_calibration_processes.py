"""The calibration benchmark's processes against facts that share no code with them.

Statistical bounds are five standard errors or more: they fail by chance in under 1e-5
of all cases, and seeds are fixed.
"""

import numpy as np
import pytest

from benchmarks.processes import (
    PROCESSES,
    DoubleWell,
    DriftingAR1,
    Quadratic,
    SlowCrossing,
)
from benchmarks.recorder import BlockRecorder, shortened
from benchmarks.verdict_ways import WAYS, statistics
from benchmarks.verdicts import find_rules, first_cuts, truth, wilson
from keras_fdr import DriftRule

QUADRATICS = [p for p in PROCESSES if isinstance(p, Quadratic)]
CHAINS = [p for p in PROCESSES if not isinstance(p, DriftingAR1)]


@pytest.mark.parametrize("process", CHAINS, ids=lambda p: p.name)
@pytest.mark.parametrize("stationary", [False, True])
def test_exact_identity(process, stationary):
    """Σ (O_L − O_R) = −[Q(T) − Q(0)], Q written out from the weights."""
    chain = process.start(3, np.random.default_rng(0), stationary)
    eta, mu = process.learning_rate, process.momentum

    def q():
        away = chain.theta - chain.center
        square, cross = (away**2).sum(1), (away * chain.velocity).sum(1)
        return (1 - mu) / (2 * eta) * square + mu * cross

    before, total, scale = q(), 0.0, 0.0
    for _ in range(300):
        rows = chain.step()
        total = total + rows[:, 0] - rows[:, 1]
        scale = scale + np.abs(rows[:, 0]) + rows[:, 1]
    np.testing.assert_array_less(np.abs(total + q() - before), 1e-11 * scale)


@pytest.mark.parametrize("process", QUADRATICS, ids=lambda p: p.name)
def test_stationary_variance_of_the_quadratic(process):
    """Var θ = η / [(1−μ) k (2 − ηk/(1+μ))], and FDR1 from the same moments."""
    eta, mu, k = process.learning_rate, process.momentum, process.curvatures
    xx, _, vv = process.stationary_moments.T
    variance = eta / ((1 - mu) * k * (2 - eta * k / (1 + mu)))
    np.testing.assert_allclose(xx, variance, rtol=1e-10)
    # ⟨x g⟩ = k⟨x²⟩ in each direction by itself.
    np.testing.assert_allclose(k * xx, (1 + mu) / 2 * eta * vv, rtol=1e-9)
    rng = np.random.default_rng(1)
    theta = process.start(20_000, rng, stationary=True).theta
    np.testing.assert_allclose(theta.var(axis=0), xx, rtol=5.5 * np.sqrt(2 / 20_000))


@pytest.mark.parametrize(
    "process",
    [Quadratic(20, 1), Quadratic(20, 1, momentum=0.9), DoubleWell()],
    ids=lambda p: p.name,
)
def test_mean_loss_against_many_runs(process):
    chain = process.start(2000, np.random.default_rng(2))
    expected = process.mean_loss(300)
    for t in range(300):
        loss = chain.step()[:, 4]
        if t % 50 == 49:
            error = loss.std() / np.sqrt(len(loss))
            assert abs(loss.mean() - expected[t]) < 5 * error
    assert process.mean_loss(20_000)[-1] == pytest.approx(process.stationary_loss)


@pytest.mark.parametrize("phi", [-0.5, 0.0, 0.9])
def test_ar1_noise(phi):
    process = DriftingAR1(phi, 200)
    chain = process.start(20_000, np.random.default_rng(3), stationary=True)
    before, q = chain.q(), chain.q()
    total = 0.0
    for _ in range(10):
        first = q
        rows = chain.step()
        q, total = chain.q(), total + rows[:, 0] - rows[:, 1]
    np.testing.assert_allclose(total, before - q, atol=1e-12)
    assert q.var() == pytest.approx(1, abs=5 * np.sqrt(2 / 20_000))
    assert np.mean(first * q) == pytest.approx(phi, abs=5 * np.sqrt(2 / 20_000))


def test_truth():
    """Excess e^(−t/τ) falls to 5% at τ ln 20; loss 1 belongs to t = 0."""
    t_star, loss = truth(DriftingAR1(0.0, 200))
    assert t_star == int(np.ceil(200 * np.log(20))) + 1
    assert abs(loss[t_star - 1] - 1) <= 0.05 < abs(loss[t_star - 2] - 1)


def test_slow_crossing_passes_1_before_its_loss_is_stationary():
    process = SlowCrossing(0.0, 100)
    crossing = 100 * np.log(1 / process.place)
    t_star, loss = truth(process)
    assert crossing < 0.7 * t_star
    assert loss[round(crossing)] == pytest.approx(1.25, abs=0.01)
    chain = process.start(4000, np.random.default_rng(6))
    left, right, losses = np.array(
        [chain.step()[:, [0, 1, 4]].mean(axis=0) for _ in range(t_star)]
    ).T
    # Sums over 20 steps have errors below 0.02; five of them are allowed.
    ratio = left.reshape(-1)[: t_star // 20 * 20].reshape(-1, 20).sum(1)
    ratio /= right[: t_star // 20 * 20].reshape(-1, 20).sum(1)
    u = np.exp(-(np.arange(len(ratio)) * 20 + 10) / 100)
    expected = 1 + 4 * (u * u - 0.25 * u) / 1.1
    np.testing.assert_allclose(ratio, expected, atol=0.1)
    np.testing.assert_allclose(losses, process.mean_loss(t_star), atol=0.01)


def test_blocks_keep_every_row():
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(83, 2, 5))
    recorder = BlockRecorder(2, capacity=8)
    for row in rows:
        recorder.add(row)
    record = recorder.record(1)
    assert (record.steps, record.block_length) == (83, 16)
    expected = [rows[i : i + 16, 1].sum(axis=0) for i in range(0, 83, 16)]
    np.testing.assert_allclose(record.sums, expected, atol=1e-12)
    same = shortened(rows[:, 1], capacity=8)
    assert (same.steps, same.block_length) == (83, 16)
    np.testing.assert_allclose(same.sums, expected, atol=1e-12)


def test_the_first_stationary_look_is_the_cut():
    process = DriftingAR1(0.0, 200)
    rules = find_rules(["threshold"])
    every, cuts = first_cuts(process, rules, 2, seed=0, t_star=601)
    assert every == 100
    assert np.all(cuts["threshold"] % every == 0)


def test_the_way_taken_is_the_rule():
    """`DriftRule` is one of the ways that the benchmark compares."""
    tests, passed = WAYS["ratio 0.1, loss (t/8, t/2] 0.2"], []
    for process in (DriftingAR1(0.9, 20), DoubleWell()):
        chain = process.start(4, np.random.default_rng(5))
        recorder = BlockRecorder(4)
        for step in range(1, 1601):
            recorder.add(chain.step())
            if step % 200 == 0:
                for record in map(recorder.record, range(4)):
                    found = statistics(record)
                    passed.append(all(test(found) for test in tests))
                    assert passed[-1] == DriftRule()(record).stationary
    assert any(passed) and not all(passed)


def test_wilson():
    """Newcombe's (1998) worked example, 81 of 263."""
    assert wilson(81, 263) == [0.2553, 0.3662]
