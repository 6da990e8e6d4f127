"""The rules against published code, rewritten in plain NumPy.

- facebookresearch/FDR_scheduler (`FDR_SGD/FDR_SGD.py`, 3f6e506): every `t_adaptive`
  steps since the last cut, |mean(O_L)/mean(O_R) − 1| < X over entries ⌊t/2⌋ to t. Its
  O_R has v before the step, ours v after it (the paper's), so it gets rows of its own.
- pzzhang/sasa (`src/optim/sasa_yaida.py`, e6254c2): the newest half in a queue; the
  interval of z̄ inside ±δ mean(O_R) and half means of one sign; before the first cut
  (`composite`), the interval around the mean of each half as well. Its O_R, too, is of
  the older v. Its error bar is from batches of ⌊√n⌋ steps: separate ones ("bm",
  default, ⌊√n⌋ − 1 degrees of freedom) or overlapping ones ("olbm", n − ⌊√n⌋: too
  many). Its defaults are δ = 0.1, σ = 0.05; these here are of our rule.
- microsoft/statopt (`statopt/sasa.py`, dc99aa2), SASA+: the newest eighth, more than
  1,000 steps of it; the interval of z̄ contains 0 and half means of one sign;
  `composite` as above. Its z is made of the step taken instead of the gradient, and its
  default error bar is that of independent samples, by a misspelt name.
"""

import math
import re

import numpy as np
import pytest
from scipy import stats

from keras_fdr import ConfidenceRule, Record, ThresholdRule


def fdr_scheduler(gradient, theta, mu, lr, steps, t_adaptive=50, x=0.05, y=0.5):
    """Trains. Returns all rows, and the step of each cut."""
    velocity = np.zeros_like(theta)
    dissipations, fluctuations, rows, cuts = [], [], [], []
    for step in range(1, steps + 1):
        force = -gradient(theta)
        o_l = -force @ theta
        o_r = 0.5 * lr * (1 + mu) * (velocity @ velocity)
        velocity = mu * velocity + force
        theta = theta + lr * velocity
        dissipations.append(o_l)
        fluctuations.append(o_r)
        rows.append([o_l, o_r, 0.0, 0.0, 0.0])
        t = len(dissipations)
        if t % t_adaptive == 0:
            half = t // 2
            ratio = np.mean(dissipations[half:t]) / np.mean(fluctuations[half:t])
            if abs(ratio - 1) < x:
                cuts.append(step)
                lr *= 1 - y
                dissipations, fluctuations = [], []
    return np.array(rows), cuts


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mu", [0.0, 0.9])
def test_cuts_of_fdr_scheduler(mu, seed):
    rng = np.random.default_rng(seed)
    curvature = np.logspace(-1, 0, 10)

    def gradient(theta):
        return curvature * (theta - 1) + rng.normal(size=10)

    start = rng.normal(size=10) + 3
    rows, expected = fdr_scheduler(gradient, start, mu, 0.2 * (1 - mu), 4000)
    assert len(expected) >= 3
    rule, cuts, last = ThresholdRule(0.05), [], 0
    for step in range(50, 4001, 50):
        if rule(Record(rows[last:step], step - last)).stationary:
            cuts.append(step)
            last = step
    assert cuts == expected


def half_width(z, error_bar, sigma):
    """Of the interval of z̄."""
    n = len(z)
    b = math.isqrt(n)
    means = np.lib.stride_tricks.sliding_window_view(z, b).mean(axis=1)
    if error_bar == "bm":
        means = means[::b]
        spread = np.sum((means - z.mean()) ** 2)
        deviation, freedom = math.sqrt(b / (len(means) - 1) * spread), b - 1
    else:
        a, spread = len(means), np.sum((means - z.mean()) ** 2)
        published = math.sqrt(b * n / (a * (a - 1)) * spread)
        # Meketon and Schmeiser's variance and degrees of freedom.
        deviation = published * math.sqrt((a - 1) / (n - b))
        freedom = 1.5 * (n / b - 1)
    return deviation * stats.t.ppf(1 - sigma / 2, freedom) / math.sqrt(n)


def sasa(rows, error_bar="olbm", composite=False, delta=0.02, sigma=0.2):
    """The test of SASA after the rows so far."""
    if len(rows) < 1000:
        return "undecided"
    newest = rows[len(rows) // 2 :]
    z, bound = newest[:, 0] - newest[:, 1], delta * newest[:, 1].mean()
    width, n = half_width(z, error_bar, sigma), len(z)
    first, second = z[: n // 2].mean(), z[n // 2 :].mean()
    inside = True
    for mean in (first, second) if composite else (z.mean(),):
        inside = inside and -bound < mean - width and mean + width < bound
    return "stationary" if inside and first * second > 0 else "drifting"


def sasa_plus(rows, composite=False, sigma=0.05):
    """The test of SASA+ after the rows so far, with overlapping batches."""
    count = -(-len(rows) // 8)
    if count <= 1000:
        return "undecided"
    z = rows[len(rows) - count :, 0] - rows[len(rows) - count :, 1]
    width = half_width(z, "olbm", sigma)
    first, second = z[: count // 2].mean(), z[count // 2 :].mean()
    contains = True
    for mean in (first, second) if composite else (z.mean(),):
        contains = contains and mean - width < 0 < mean + width
    return "stationary" if contains and first * second > 0 else "drifting"


def series(noise, drift, seed, steps):
    rng = np.random.default_rng(seed)
    rows = np.ones((steps, 5))
    rows[:, 1] += 0.1 * rng.exponential(size=steps)
    rows[:, 0] = rows[:, 1] + noise * rng.normal(size=steps)
    rows[:, 0] += drift * np.exp(-np.arange(steps) / 800)
    return rows


def looks(noise, drift, seed, error_bar="olbm", composite=False):
    """(status by the reference, status by the rule) at each look."""
    rows = series(noise, drift, seed, 6000)
    rule = ConfidenceRule("sasa", composite)
    # Multiples of 4, where both halves are equally long.
    for step in range(800, 6001, 200):
        expected = sasa(rows[:step], error_bar, composite)
        yield expected, rule(Record(rows[:step], step)).status


CASES = [
    (noise, drift, s) for noise in (0.1, 0.5) for drift in (0, 0.3) for s in (0, 1)
]


@pytest.mark.parametrize("composite", [False, True])
@pytest.mark.parametrize("noise, drift, seed", CASES)
def test_sasa_with_overlapping_batches_at_every_look(noise, drift, seed, composite):
    pairs = list(looks(noise, drift, seed, composite=composite))
    assert [rule for _, rule in pairs] == [reference for reference, _ in pairs]


def test_sasa_with_separate_batches_at_most_looks():
    """The published error bar is noisier: it may differ near the bound."""
    pairs = [pair for case in CASES for pair in looks(*case, "bm")]
    statuses = {reference for reference, _ in pairs}
    assert statuses == {"undecided", "drifting", "stationary"}
    agree = np.mean([reference == rule for reference, rule in pairs])
    assert agree > 0.9


@pytest.mark.parametrize("composite", [False, True])
@pytest.mark.parametrize("noise, drift, seed", CASES)
def test_sasa_plus_at_every_look(noise, drift, seed, composite):
    rows = series(noise, 100 * drift, seed, 20_000)
    rule = ConfidenceRule("sasa+", composite)
    # Multiples of 16, where both halves of the newest eighth are equally long.
    for step in range(7200, 20_001, 800):
        verdict = rule(Record(rows[:step], step))
        assert verdict.status == sasa_plus(rows[:step], composite)


def test_composite_is_stricter_and_statuses_occur():
    """z̄ that crosses 0 inside the window passes the plain test only."""
    rng = np.random.default_rng(0)
    rows = np.ones((4000, 5))
    # From +0.03 to −0.02 of the fluctuation, hence of one sign in neither test …
    rows[:, 0] += np.linspace(0.08, -0.02, 4000) + 0.01 * rng.normal(size=4000)
    record = Record(rows, 4000)
    assert ConfidenceRule("sasa")(record).status == "drifting"
    # … and of one sign, but too large in the older half, in the composite test.
    rows[:, 0] += 0.025
    rows[2000:3000, 0] = 1.022 + 0.01 * rng.normal(size=1000)
    rows[3000:, 0] = 1.01 + 0.01 * rng.normal(size=1000)
    record = Record(rows, 4000)
    assert sasa(rows) == ConfidenceRule("sasa")(record).status == "stationary"
    strict = ConfidenceRule("sasa", composite=True)(record)
    assert sasa(rows, composite=True) == strict.status == "drifting"
    assert "z̄ of each half" in strict.reason


@pytest.mark.parametrize(
    "kind, composite, wanted",
    [
        ("sasa", False, r"z̄ is between .*, within ±0.02 \(2% of the fluctuation\), "),
        ("sasa", True, r"z̄ of each half is between .*, within ±0.02 \(2%"),
        ("sasa+", False, r"z̄ is between .*, containing 0, "),
        ("sasa+", True, r"z̄ of each half is between .*, containing 0, "),
    ],
)
def test_reason_of_a_rule_that_fires(kind, composite, wanted):
    for seed in range(50):
        rng = np.random.default_rng(seed)
        rows = np.ones((10_000, 5))
        rows[:, 0] += 0.002 + 0.1 * rng.normal(size=10_000)
        verdict = ConfidenceRule(kind, composite)(Record(rows, 10_000))
        if verdict.stationary:
            break
    assert verdict.stationary
    assert re.match(wanted, verdict.reason), verdict.reason
    assert verdict.reason.endswith("with one sign in both halves of the window.")
    assert "waits" not in verdict.reason


@pytest.mark.parametrize("blocks", [2, 3])
def test_windows_of_two_or_three_blocks(blocks):
    """The overlapping means are the blocks themselves, and Student's t is wide."""
    z = np.array([0.3, 0.5, 0.1])[:blocks]
    length = 1000
    rows = np.ones((2 * blocks, 5))
    rows[blocks:, 0] += z
    record = Record(length * rows, 2 * blocks * length, length)
    reason = ConfidenceRule("sasa")(record).reason
    low, high = map(float, re.findall(r"between (\S+) and (\S+?);", reason)[0])
    error = np.std(z, ddof=1) / math.sqrt(blocks)
    freedom = max(1.0, 1.5 * (blocks - 1))
    width = stats.t.isf(0.1, freedom) * error
    assert (low, high) == pytest.approx((z.mean() - width, z.mean() + width), rel=5e-3)
