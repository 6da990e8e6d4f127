"""The rules against published code, rewritten in plain NumPy.

- facebookresearch/FDR_scheduler (`FDR_SGD/FDR_SGD.py`, 3f6e506): every `t_adaptive`
  steps since the last cut, |mean(O_L)/mean(O_R) − 1| < X over entries ⌊t/2⌋ to t. Its
  O_R has v before the step, ours v after it (the paper's), so it gets rows of its own.
- pzzhang/sasa (`src/optim/sasa_yaida.py`, e6254c2): the newest half in a queue; the
  interval of z̄ inside ±δ mean(O_R) and half means of one sign. Its O_R, too, is of the
  older v. Its error bar is from batches of ⌊√n⌋ steps: separate ones ("bm", default,
  ⌊√n⌋ − 1 degrees of freedom) or overlapping ones ("olbm", n − ⌊√n⌋: too many). Before
  the first cut it asks more (`composite`, left out here): the interval around each
  half's mean. Its defaults are δ = 0.1, σ = 0.05; these here are of our rule.
"""

import math

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


def sasa(rows, error_bar, delta=0.02, sigma=0.2):
    """The test of SASA after the rows so far, without `composite`."""
    if len(rows) < 1000:
        return "undecided"
    newest = rows[len(rows) // 2 :]
    z, fluctuation = newest[:, 0] - newest[:, 1], newest[:, 1].mean()
    n = len(z)
    b = math.isqrt(n)
    if error_bar == "bm":
        means = [z[i : i + b].mean() for i in range(0, n - b + 1, b)]
        spread = sum((m - z.mean()) ** 2 for m in means)
        deviation, freedom = math.sqrt(b / (len(means) - 1) * spread), b - 1
    else:
        means = [z[i : i + b].mean() for i in range(n - b + 1)]
        spread = sum((m - z.mean()) ** 2 for m in means)
        a = len(means)
        published = math.sqrt(b * n / (a * (a - 1)) * spread)
        # Meketon and Schmeiser's variance and degrees of freedom.
        deviation = published * math.sqrt((a - 1) / (n - b))
        freedom = 1.5 * (n / b - 1)
    half_width = deviation * stats.t.ppf(1 - sigma / 2, freedom) / math.sqrt(n)
    low, high = z.mean() - half_width, z.mean() + half_width
    same_sign = z[: n // 2].mean() * z[n // 2 :].mean() > 0
    bound = delta * fluctuation
    inside = -bound < low and high < bound
    return "stationary" if inside and same_sign else "drifting"


def looks(noise, drift, seed, error_bar):
    """(status by the reference, status by the rule) at each look."""
    rng = np.random.default_rng(seed)
    rows = np.ones((6000, 5))
    rows[:, 1] += 0.1 * rng.exponential(size=6000)
    rows[:, 0] = rows[:, 1] + noise * rng.normal(size=6000)
    rows[:, 0] += drift * np.exp(-np.arange(6000) / 800)
    rule = ConfidenceRule("sasa")
    # Multiples of 4, where both halves are equally long.
    for step in range(800, 6001, 200):
        yield sasa(rows[:step], error_bar), rule(Record(rows[:step], step)).status


CASES = [
    (noise, drift, s) for noise in (0.1, 0.5) for drift in (0, 0.3) for s in (0, 1)
]


@pytest.mark.parametrize("noise, drift, seed", CASES)
def test_sasa_with_overlapping_batches_at_every_look(noise, drift, seed):
    pairs = list(looks(noise, drift, seed, "olbm"))
    assert [rule for _, rule in pairs] == [reference for reference, _ in pairs]


def test_sasa_with_separate_batches_at_most_looks():
    """The published error bar is noisier: it may differ near the bound."""
    pairs = [pair for case in CASES for pair in looks(*case, "bm")]
    statuses = {reference for reference, _ in pairs}
    assert statuses == {"undecided", "drifting", "stationary"}
    agree = np.mean([reference == rule for reference, rule in pairs])
    assert agree > 0.9
