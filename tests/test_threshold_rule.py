"""The rules, on records with a known answer."""

import dataclasses
import math

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


def test_status_is_one_of_three():
    with pytest.raises(ValueError, match="undecided\". Received: status='foo'"):
        Verdict("foo", 1.0, 1, "")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"status": ["drifting"]}, ValueError),
        ({"ratio": None}, TypeError),
        ({"ratio": "1"}, TypeError),
        ({"steps": 1.5}, TypeError),
        ({"steps": -1}, ValueError),
        ({"reason": None}, TypeError),
        ({"ratio_error": "x"}, TypeError),
        ({"effective_sample_size": True}, TypeError),
        ({"by_variable": ["w"]}, TypeError),
    ],
)
def test_verdict_of_another_type_is_refused(changes, error):
    """The message has the argument's name and the value."""
    [(name, value)] = changes.items()
    arguments = {"status": "drifting", "ratio": 2.0, "steps": 10, "reason": "why"}
    with pytest.raises(error, match=f"`{name}` must be") as caught:
        Verdict(**{**arguments, **changes})
    assert str(caught.value).endswith(f"Received: {name}={value!r}")


def test_a_verdict_is_short_to_read():
    verdict = Verdict("drifting", 2.0, 10, "why", by_variable={"w": None})
    assert repr(verdict) == "Verdict('drifting', ratio=2, steps=10)"


def noisy(offset):
    """100 steps whose ratio is 1 + offset, with a noise floor far above 0.01."""
    q = np.random.default_rng(2).normal(size=101)
    q[50] = q[100] + 50 * offset
    return record_of(1 - np.diff(q))


def test_reason_of_a_cut_that_noise_alone_can_have_made():
    fired, waited = ThresholdRule()(noisy(0.0)), ThresholdRule()(noisy(0.05))
    assert fired.stationary and waited.status == "drifting"
    assert fired.ratio_error > 0.01
    missing = math.ceil(100 * (fired.ratio_error / 0.01 - 1))
    assert fired.reason == (
        "Dissipation over fluctuation is 1.0000 over steps 51 to 100, within 0.01 of "
        f"1. The rule fired, but noise alone moves the ratio by {fired.ratio_error:.2g}"
        " here and could have done it: 0.01 can be told from it after about "
        f"{missing:,} more steps."
    )
    assert "fired" not in waited.reason and "Noise alone" in waited.reason
