"""The rules, on records with a known answer."""

import dataclasses

import numpy as np
import pytest

from keras_fdr import Record, ThresholdRule, Verdict


def record_of(dissipation, fluctuation=1.0, steps=100):
    rows = np.zeros((steps, 5))
    rows[:, 0], rows[:, 1] = dissipation, fluctuation
    return Record(rows, steps=steps)


@pytest.mark.parametrize(
    "ratio, threshold, status",
    [
        (1.0, 0.01, "stationary"),
        (1.0099, 0.01, "stationary"),
        (0.9901, 0.01, "stationary"),
        (1.0101, 0.01, "drifting"),
        (0.9899, 0.01, "drifting"),
        (1.25, 0.25, "drifting"),
        (1.2499, 0.25, "stationary"),
        (-1.0, 0.5, "drifting"),
    ],
)
def test_threshold(ratio, threshold, status):
    verdict = ThresholdRule(threshold)(record_of(ratio))
    assert verdict.status == status
    assert verdict.stationary == (status == "stationary")
    assert verdict.ratio == pytest.approx(ratio)
    assert verdict.steps == 100
    assert f"{ratio:.4f} over steps 51 to 100" in verdict.reason


def test_only_the_newest_half_counts():
    dissipation = np.where(np.arange(100) < 50, 100.0, 1.0)
    assert ThresholdRule()(record_of(dissipation)).stationary


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("column", [0, 1])
def test_nonfinite_is_undecided_with_the_step(value, column):
    record = record_of(1.0)
    record.sums[69, column] = value
    verdict = ThresholdRule()(record)
    assert verdict.status == "undecided"
    assert "NaN or infinite at step 70 of the record" in verdict.reason
    later = Record(np.vstack([record.sums, record_of(1.0).sums]), steps=200)
    assert ThresholdRule()(later).stationary


def test_no_fluctuation_is_undecided():
    verdict = ThresholdRule()(record_of(0.0, fluctuation=0.0))
    assert verdict.status == "undecided"
    assert "exactly 0" in verdict.reason


def test_no_steps_is_undecided():
    verdict = ThresholdRule()(Record.empty())
    assert verdict.status == "undecided"
    assert "Nothing is recorded" in verdict.reason


@pytest.mark.parametrize("threshold", [0, -0.1, float("nan"), float("inf")])
def test_refused_threshold(threshold):
    with pytest.raises(ValueError, match="above 0. Received: threshold="):
        ThresholdRule(threshold)


def test_a_verdict_is_frozen():
    verdict = Verdict("drifting", 2.0, 10, "why")
    with pytest.raises(dataclasses.FrozenInstanceError):
        verdict.status = "stationary"
