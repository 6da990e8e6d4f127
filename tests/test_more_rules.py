"""Pflug's test, the distance test and two looks, against plain NumPy.

The published tests are written out from the weights and gradients of a run, so they
share no code with the rules, which see the record only.
"""

import dataclasses

import keras
import numpy as np
import pytest

from keras_fdr import (
    DistanceRule,
    FDRCallback,
    PflugRule,
    Record,
    TwoLooksRule,
)

RULES = (TwoLooksRule(), PflugRule(), DistanceRule())


def train(mu, steps, seed=0, eta=0.1, nu=0.0):
    """SGD on a noisy quadratic: rows, centred at the start, θ and g of each step."""
    rng = np.random.default_rng(seed)
    k = np.logspace(-1, 0, 20)
    theta = start = rng.normal(size=20) + 5
    v = np.zeros(20)
    rows, thetas, gradients = [], [theta], []
    for _ in range(steps):
        g = k * theta + rng.normal(size=20)
        ahead = mu * v - (1 - nu) * g
        fluctuation = (1 + mu) / (2 * (1 - nu)) * eta * ahead @ ahead
        loss = 0.5 * k @ theta**2
        rows.append([(theta - start) @ g, fluctuation, v @ g, g @ g, loss])
        v, theta = ahead, theta + eta * ahead
        thetas.append(theta)
        gradients.append(g)
    return np.array(rows), np.array(thetas), np.array(gradients)


def record_of(rows, block_length=1):
    sums = np.add.reduceat(rows, np.arange(0, len(rows), block_length))
    return Record(sums, len(rows), block_length)


def first_fire(rule, rows, looks):
    fires = (t for t in looks if rule(record_of(rows[:t])).stationary)
    return next(fires, None)


@pytest.mark.parametrize("seed", range(4))
def test_pflug_with_hardly_any_momentum_is_the_published_test(seed):
    """Its cut is at the same step as that of Σ g(t)·g(t−1) < 0."""
    rows, _, g = train(1e-9, 600, seed)
    burn_in = 20
    products = np.einsum("ij,ij->i", g[1:], g[:-1])
    looks = range(burn_in + 1, 600)
    expected = next((t for t in looks if products[burn_in - 1 : t - 1].sum() < 0), None)
    assert first_fire(PflugRule(burn_in), rows, looks) == expected
    assert expected is not None


def test_pflug_with_momentum():
    rows, _, _ = train(0.9, 2000, eta=0.01)
    column = rows[:, 2]
    looks = range(150, 2001, 50)
    expected = next(t for t in looks if column[100:t].mean() > 0)
    assert first_fire(PflugRule(), rows, looks) == expected
    # Long after, v·g has its stationary mean, which is above 0.
    late = train(0.9, 30_000, eta=0.01)[0][2000:]
    verdict = PflugRule(0)(record_of(late, 8))
    assert verdict.stationary
    mean = f"{-late[:, 2].mean():.3g}"
    assert mean in verdict.reason and "below 0" in verdict.reason


def test_pflug_needs_momentum_and_a_burn_in():
    rows, _, _ = train(0.0, 300)
    rows[:, 2] = 0  # No velocity is kept, as in `FDRSGD`.
    verdict = PflugRule()(record_of(rows))
    assert verdict.status == "undecided" and "`momentum` above 0" in verdict.reason
    early = PflugRule()(record_of(rows[:90]))
    assert early.status == "undecided" and "11 more steps" in early.reason


@pytest.mark.parametrize("nu", [0.0, 0.25])
@pytest.mark.parametrize("steps", [12, 100, 1500])
def test_distance_is_the_published_statistic(steps, nu):
    rows, theta, _ = train(0.0, steps, nu=nu)
    distance = np.sum((theta - theta[0]) ** 2, axis=1)
    k = int(np.floor(np.log(steps) / np.log(1.5)))
    before, now = round(1.5 ** (k - 1)), round(1.5**k)
    slope = np.log(distance[now] / distance[before]) / np.log(now / before)
    verdict = DistanceRule()(record_of(rows))
    assert f"power {slope:.2f} of t from step {before:,} to {now:,}" in verdict.reason
    assert verdict.stationary == (slope < 0.6)


def test_distance_fires_after_the_way_and_not_on_it():
    rows, _, _ = train(0.0, 4000, eta=0.01)
    rule = DistanceRule()
    assert rule(record_of(rows[:60])).status == "drifting"
    assert rule(record_of(rows)).stationary
    assert rule(record_of(rows, 4)).stationary


def test_distance_with_momentum_is_near_the_published_statistic():
    rows, theta, _ = train(0.9, 1500, eta=0.01)
    away = theta - theta[0]
    v = np.diff(theta, axis=0, prepend=theta[:1]) / 0.01
    distance = np.sum(away**2, axis=1)
    # In units of |θ−θ₀|², Q has this term as well.
    q = distance + 2 * 0.01 * 0.9 / 0.1 * np.einsum("ij,ij->i", away, v)

    def slope(of):
        return np.log(of[1478] / of[985]) / np.log(1478 / 985)

    reason = DistanceRule()(record_of(rows)).reason
    said = float(reason.split("power ")[1].split()[0])
    assert said == pytest.approx(slope(q), abs=0.006)
    assert said == pytest.approx(slope(distance), abs=0.1)


def test_distance_needs_the_center_at_the_start():
    rows, theta, g = train(0.0, 400)
    rows[:, 0] = np.einsum("ij,ij->i", theta[:-1], g)  # θ_c = 0
    verdict = DistanceRule()(record_of(rows))
    assert verdict.status == "undecided" and 'center="initial"' in verdict.reason
    few = DistanceRule()(record_of(rows[:10]))
    assert few.status == "undecided" and "needs 12 steps" in few.reason


def flat(steps=1600, loss=1.0):
    rows = np.ones((steps, 5))
    rows[:, 4] = loss
    return rows


@pytest.mark.parametrize("block_length", [1, 16])
def test_two_looks_do_not_take_a_crossing_for_a_rest(block_length):
    rule, rows = TwoLooksRule(), flat()
    assert rule(record_of(rows, block_length)).stationary
    # From 1.3 to 0.7 over the window: its mean is 1.
    rows[800:, 0] = np.linspace(1.3, 0.7, 800)
    record = record_of(rows, block_length)
    assert record.ratio == pytest.approx(1, abs=1e-9)
    verdict = rule(record)
    assert verdict.status == "drifting"
    assert "is 1.150 and 0.850 in the two halves" in verdict.reason


def test_two_looks_see_a_loss_that_falls():
    rows = flat()
    rows[:800, 4] = 1.2
    verdict = TwoLooksRule()(record_of(rows))
    assert verdict.status == "drifting" and "1.200 times" in verdict.reason
    assert TwoLooksRule(0.25)(record_of(rows)).stationary
    only_sides = Record(rows[:, :2], 1600, names=("dissipation", "fluctuation"))
    assert TwoLooksRule()(only_sides).stationary


def test_two_looks_explain_growth():
    rows = flat()
    rows[:, 0] = 0.5
    assert "still grow" in TwoLooksRule()(record_of(rows)).reason


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_rules_are_values(rule):
    assert rule == type(rule)(**rule.get_config())
    assert eval(repr(rule)) == rule
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.share = 1
    assert rule(Record.empty()).status == "undecided"
    with pytest.raises(TypeError, match="Received: record=3"):
        rule(3)
    callback = FDRCallback.from_config(FDRCallback(rule=rule).get_config())
    assert callback.rule == rule
    config = keras.saving.serialize_keras_object(rule)
    assert config["registered_name"] == f"keras_fdr>{type(rule).__name__}"


def test_a_few_steps_are_not_enough():
    verdict = TwoLooksRule()(record_of(flat(14)))
    assert verdict.status == "undecided" and "needs 16 steps" in verdict.reason
    assert TwoLooksRule()(record_of(flat(16))).stationary


@pytest.mark.parametrize(
    "kind, arguments",
    [
        (TwoLooksRule, {"margin": 0}),
        (PflugRule, {"burn_in": -1}),
        (DistanceRule, {"q": 1}),
        (DistanceRule, {"threshold": 0}),
        (DistanceRule, {"first": 0}),
    ],
)
def test_out_of_range(kind, arguments):
    with pytest.raises(ValueError, match="Received"):
        kind(**arguments)
    name = next(iter(arguments))
    with pytest.raises(TypeError, match="Received"):
        kind(**{name: "1"})
