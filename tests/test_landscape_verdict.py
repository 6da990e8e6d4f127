"""Where the harmonic approximation ends, what is printed, and the file of a table."""

import json
import os
from dataclasses import replace

import pytest
from landscape_cases import of_residuals, table

from keras_fdr import landscape
from keras_fdr.landscape.estimates import mean


def test_residual_is_relative_to_the_curvature():
    found = of_residuals(0.05, -0.3, spread=0.02)
    assert found.residual[0] == pytest.approx(mean([0.03, 0.05, 0.07]))
    assert found.residual[1] == pytest.approx(mean([-0.32, -0.3, -0.28]))


@pytest.mark.parametrize(
    ("residuals", "harmonic", "anharmonic"),
    [
        ((0.0, 0.05, -0.05), 0.3, None),
        ((0.0, 0.05, 0.2), 0.2, 0.3),
        ((0.0, -0.2, 0.0), 0.1, 0.2),
        ((0.0, 0.1, 0.3), 0.1, 0.3),
        ((0.1, 0.0, 0.0), None, None),
        ((0.5, 0.5, -0.5), None, 0.1),
    ],
)
def test_where_the_harmonic_approximation_ends(residuals, harmonic, anharmonic):
    found = of_residuals(*residuals)
    assert found.harmonic_up_to == harmonic
    assert found.anharmonic_from == anharmonic


def test_stage_that_was_not_stationary_is_not_judged():
    """More than 5% of its O_FB came from a falling loss, or a rising one."""
    share = {0.1: 0.0, 0.2: 0.06, 0.3: -0.06, 0.4: 0.04}
    found = of_residuals(
        0.0, 0.3, 0.3, 0.3, drift=lambda rate, seed: share[rate] + (seed - 1) / 100
    )
    assert found.drift[1] == pytest.approx(mean([0.05, 0.06, 0.07]), abs=1e-3)
    assert found.harmonic_up_to == 0.1
    assert found.anharmonic_from == 0.4
    assert "not judged at 0.2, 0.3" in found.verdict
    assert "train longer" in found.verdict
    assert "train longer" not in of_residuals(0.0).verdict
    early = of_residuals(0.0, 0.0, drift=lambda rate, seed: 0.2 - rate)
    assert early.harmonic_up_to is None


def test_verdict_names_the_learning_rates_of_each_state():
    verdict = of_residuals(0.0, 0.1, 0.3, 0.02).verdict
    for state in ("holds at 0.1, 0.4", "fails at 0.3", "undecided at 0.2"):
        assert state in verdict
    assert "10%" in verdict and "More seeds" in verdict
    assert "More seeds" not in of_residuals(0.0, 0.3).verdict


def test_landscape_is_readable():
    text = str(of_residuals(0.0, 0.05, 0.3))
    assert "independent" in text and "3 seeds" in text and "Tr(HC)" in text
    for rate, residual in (("0.1", "+0.0%"), ("0.2", "+5.0%"), ("0.3", "+30.0%")):
        line = next(s for s in text.splitlines() if s.strip().startswith(f"{rate} "))
        assert residual in line
    assert max(map(len, text.splitlines())) < 140
    assert "holds at 0.1, 0.2" in text


def test_other_things_are_no_results():
    with pytest.raises(TypeError, match="SweepResults.*dict"):
        landscape.fit({})
    empty = landscape.SweepResults(table().settings)
    with pytest.raises(ValueError, match="at least one seed"):
        landscape.fit(empty)
    partial = table(seeds=(0,))
    partial.rows.append(replace(partial.rows[0], seed=1, learning_rate=7.0))
    with pytest.raises(ValueError, match="every learning rate"):
        landscape.fit(partial)


# The file.


def test_table_comes_back_from_its_file(tmp_path):
    results = table(o_fb=lambda rate, seed: rate / 3 + seed / 7)
    path = tmp_path / "sweep.json"
    results.save(path)
    assert os.listdir(tmp_path) == ["sweep.json"]
    assert landscape.SweepResults.load(path) == results
    assert landscape.SweepResults.load(str(tmp_path)) == results
    found = landscape.fit(results)
    assert landscape.fit(path) == landscape.fit(str(tmp_path)) == found


def test_file_is_replaced_when_the_new_one_is_complete(tmp_path, monkeypatch):
    path = tmp_path / "sweep.json"
    table().save(path)
    before = path.read_text()
    monkeypatch.setattr(json, "dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        table(seeds=(0,)).save(path)
    monkeypatch.undo()

    def kill(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", kill)
    with pytest.raises(KeyboardInterrupt):
        table(seeds=(0,)).save(path)
    assert path.read_text() == before


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"rows": []}'])
def test_broken_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="broken.json"):
        landscape.fit(path)


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        landscape.fit(tmp_path / "nothing.json")
