"""Verdicts on every weight tensor: a plain NumPy reference, and `fit`.

The series are fixed by their seeds; where a drift is built in it is tens of standard
errors, so that a failure by chance is out of the question.
"""

import dataclasses
import math

import keras
import numpy as np
import pytest
from arviz_stats.base import array_stats
from scipy import stats

from keras_fdr import (
    FDRSGD,
    ConfidenceRule,
    DriftRule,
    FDRCallback,
    FDRObservables,
    Record,
    ThresholdRule,
    Verdict,
)
from keras_fdr.rules import judge_variables

NAMES = ("dissipation", "fluctuation")
RULES = [ThresholdRule(), ConfidenceRule("sasa"), ConfidenceRule("sasa+"), DriftRule()]


def tensor(drift, noise, steps=2000, seed=0):
    """The record of one tensor: O_R = 1, O_L = 1 − drift − the steps of a noisy Q."""
    q = noise * np.random.default_rng(seed).normal(size=steps + 1)
    rows = np.ones((steps, 2))
    rows[:, 0] -= drift + np.diff(q)
    return Record(rows, steps=steps, names=NAMES)


TENSORS = {
    "steady": tensor(0.0, 1.0),
    "slow": tensor(0.02, 1.0, seed=1),
    "fast": tensor(-0.5, 1.0, seed=2),
    "drifting": tensor(0.3, 1.0, seed=3),
    "noisy": tensor(0.0, 300.0, seed=4),
    "frozen": Record(np.zeros((2000, 2)), steps=2000, names=NAMES),
}


def drift_rule(rows, margin=0.1, false_alarm=0.05):
    """DriftRule's test of the ratio, one step a block."""
    half = len(rows) // 2
    left, right = rows[half:].T
    if not right.any():
        return "undecided"
    q = np.concatenate([[0], np.cumsum(right - left)])
    ratio, n = left.sum() / right.sum(), len(q)
    size = array_stats.ess(q, chain_axis=None, draw_axis=-1, method="mean")
    size = min(max(size, 1), n)
    if size < 4:
        one, two = q[: (n + 1) // 2], q[(n + 1) // 2 :]
        spread = math.sqrt((one.var() + two.var()) / 2)
        trend = abs(one.mean() - two.mean()) > 2 * spread
        return "drifting" if trend and abs(ratio - 1) >= margin else "undecided"
    variance = np.sum((q - q.mean()) ** 2) / n * size / (size - 1)
    floor = math.sqrt(2 * variance) / right.sum()
    width = floor * stats.t.ppf(0.975, size - 1) / 1.96
    width *= stats.norm.isf(false_alarm)
    if abs(ratio - 1) + width < margin:
        return "stationary"
    return "drifting" if abs(ratio - 1) - width >= margin else "undecided"


def test_drift_rule_against_numpy():
    rule = DriftRule()
    expected = {name: drift_rule(record.sums) for name, record in TENSORS.items()}
    assert {name: rule(r).status for name, r in TENSORS.items()} == expected
    assert expected == {
        "steady": "stationary",
        "slow": "undecided",  # all in one direction, but not by more than the margin
        "fast": "drifting",
        "drifting": "drifting",
        "noisy": "undecided",
        "frozen": "undecided",
    }
    rng = np.random.default_rng(5)
    statuses = set()
    for seed in range(60):
        drift, noise = rng.choice([0, 0.05, 0.1, 0.2]), rng.choice([1, 10, 50])
        record = tensor(drift, noise, steps=int(rng.integers(50, 1000)), seed=seed)
        statuses.add(rule(record).status)
        assert rule(record).status == drift_rule(record.sums)
    assert statuses == {"stationary", "drifting", "undecided"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_total_decides_and_tensors_are_named(rule):
    total = Verdict("stationary", 1.0, 2000, "As wanted.")
    verdict = judge_variables(rule, total, TENSORS)
    assert verdict.status == "stationary" and verdict.ratio == 1.0
    for name, record in TENSORS.items():
        found = dataclasses.asdict(verdict.by_variable[name])
        # NaN is equal to itself here.
        np.testing.assert_equal(found, dataclasses.asdict(rule(record)))
    drifting = {n for n, v in verdict.by_variable.items() if v.status == "drifting"}
    assert set(verdict.drifting_variables) == drifting
    named = verdict.reason.removeprefix("As wanted.")
    assert all((name in named) == (name in drifting) for name in TENSORS)
    assert not total.by_variable and total.drifting_variables == ()


def test_reason_names_the_farthest_first_and_not_too_many():
    total = Verdict("drifting", 2.0, 2000, "As found.")
    verdict = judge_variables(DriftRule(), total, TENSORS)
    assert verdict.reason == (
        "As found. Seen separately, 2 of 6 weight tensors still drift: fast, drifting."
    )
    many = {f"w{i}": tensor(0.3 + 0.01 * i, 1.0) for i in range(8)}
    reason = judge_variables(DriftRule(), total, many).reason
    assert reason.endswith(
        "8 of 8 weight tensors still drift: w7, w6, w5, w4, w3 and 3 more."
    )
    five = {name: many[name] for name in ("w7", "w6", "w5", "w4", "w3")}
    reason = judge_variables(DriftRule(), total, five).reason
    assert reason.endswith("5 of 5 weight tensors still drift: w7, w6, w5, w4, w3.")
    still = judge_variables(DriftRule(), total, {"steady": TENSORS["steady"]})
    assert still.reason == "As found."
    assert hash(still) == hash(still)


def two_speeds():
    """y = a·x + 3 Σ z + noise, with z so small that its weights take 5,000 steps."""
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(2000, 4)), 0.03 * rng.normal(size=(2000, 4))
    y = x.sum(axis=1) + 100 * z.sum(axis=1) + rng.normal(size=2000)
    large, small = keras.Input((4,)), keras.Input((4,))
    one = keras.layers.Dense(1, use_bias=False, name="fast")(large)
    other = keras.layers.Dense(1, use_bias=False, name="slow")(small)
    model = keras.Model([large, small], keras.layers.Add()([one, other]))
    return model, ([x.astype("f"), z.astype("f")], y[:, None].astype("f"))


def fit(rule, capsys, per_variable=True, epochs=10):
    model, (x, y) = two_speeds()
    observables = FDRObservables(capacity=2048, per_variable=per_variable)
    optimizer = FDRSGD(0.05, l2=1e-3, observables=observables)
    model.compile(optimizer, loss="mse", steps_per_execution=10)
    callback = FDRCallback(rule=rule, verbose=1)
    model.fit(x, y, batch_size=10, epochs=epochs, verbose=0, callbacks=[callback])
    return model, callback, capsys.readouterr().out


def test_fit_names_the_layer_that_still_drifts(capsys):
    model, callback, _ = fit(DriftRule(), capsys)
    verdict = callback.verdict
    assert list(verdict.by_variable) == ["fast/kernel", "slow/kernel"]
    assert verdict.by_variable["fast/kernel"].status == "stationary"
    assert verdict.drifting_variables == ("slow/kernel",)
    assert "1 of 2 weight tensors still drift: slow/kernel." in verdict.reason
    assert not verdict.stationary and callback.cuts == []
    records = model.optimizer.observables.record_by_variable()
    for name, record in records.items():
        assert record.block_length == 1
        assert verdict.by_variable[name].status == drift_rule(record.sums)


def test_line_of_a_cut_names_it(capsys):
    def rule(record):
        """Cuts at once; the tensors by DriftRule."""
        if "loss" in record.names:
            return Verdict("stationary", record.ratio, record.steps, "Cut now.")
        return DriftRule()(record)

    _, callback, printed = fit(rule, capsys, epochs=5)
    assert len(callback.cuts) == 5
    assert (
        "Cut now. Seen separately, 1 of 2 weight tensors still drift: slow" in printed
    )
    _, callback, printed = fit(rule, capsys, per_variable=False, epochs=1)
    assert "Cut now." in printed and "separately" not in printed
    assert callback.verdict.by_variable == {}
