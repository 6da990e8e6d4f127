"""A sweep that is killed and started again finds what an undisturbed one finds."""

import os
import shutil

import numpy as np
import pytest
from sweep_cases import DATA, least_squares

from keras_fdr import landscape
from keras_fdr.landscape.sweeps import protocol

RUN = protocol.StageRunner
STAGES = [(0.1, 3), (0.05, 4)]
INITIAL = (0.2, 2)
SEEDS = [4, 2]
# `os.replace` puts each file in its place: the table, the initial weights, and after
# each stage the table and then the weights.
REPLACEMENTS = 2 + 2 * len(SEEDS) * len(STAGES)


@pytest.fixture(scope="module")
def model():
    return least_squares(0.9, 0.3)


@pytest.fixture(scope="module")
def undisturbed(model):
    return go(model, None)


@pytest.fixture
def one_compilation(model, monkeypatch):
    """Every sweep uses the same `StageRunner`, which has no state but the variables."""
    run = RUN(model, DATA, 4, "independent", 1)
    monkeypatch.setattr(protocol, "StageRunner", lambda *_: run)


def go(model, directory, **arguments):
    arguments = {
        "stages": STAGES,
        "seeds": SEEDS,
        "batch_size": 4,
        "initial": INITIAL,
        "verbose": 0,
    } | arguments
    return landscape.sweep(model, DATA, directory=directory, **arguments)


def kill_at(monkeypatch, owner, name, number):
    """The call of that number, from 1, raises instead."""
    original, calls = getattr(owner, name), []

    def replacement(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) == number:
            raise KeyboardInterrupt
        return original(*arguments, **keywords)

    monkeypatch.setattr(owner, name, replacement)
    return calls


def test_every_kill_is_survived(model, undisturbed, one_compilation, tmp_path):
    """Before each of the files is in its place, so also between table and weights."""
    before = [v.numpy() for v in model.variables]
    for number in range(1, REPLACEMENTS + 1):
        directory = tmp_path / str(number)
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, os, "replace", number)
            with pytest.raises(KeyboardInterrupt):
                go(model, directory)
        for old, variable in zip(before, model.variables, strict=True):
            np.testing.assert_array_equal(old, variable.numpy())
        with pytest.MonkeyPatch.context() as patch:
            stages = kill_at(patch, RUN, "stage", None)
            assert go(model, directory) == undisturbed
        # What was finished is not done again: with the initial run, 5 in all.
        finished = max(0, number - 1) // 2
        assert len(stages) == 5 - finished, number
        assert landscape.SweepResults.load(directory) == undisturbed


def test_kill_within_a_stage_repeats_it(
    model, undisturbed, one_compilation, tmp_path, monkeypatch
):
    """Not only at the boundaries; and again and again."""
    for number in (2, 4, 3):
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, RUN, "_measure", number)
            with pytest.raises(KeyboardInterrupt):
                go(model, tmp_path)
    assert go(model, tmp_path) == undisturbed


def test_kill_while_weights_are_written(
    model, undisturbed, one_compilation, tmp_path, monkeypatch
):
    """A file that is cut off is never read."""
    original = np.savez

    def cut_off(file, **arrays):
        original(file, **arrays)
        if arrays["stages"] == 1:
            file.truncate(50)
            raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", cut_off)
    with pytest.raises(KeyboardInterrupt):
        go(model, tmp_path)
    monkeypatch.setattr(np, "savez", original)
    assert go(model, tmp_path) == undisturbed


def test_finished_sweep_is_read(model, undisturbed, one_compilation, tmp_path, capsys):
    go(model, tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")  # a directory can move
    with pytest.MonkeyPatch.context() as patch:
        stages = kill_at(patch, RUN, "stage", None)
        assert go(model, tmp_path / "b", verbose=1) == undisturbed
    assert not stages
    assert "16/16" in capsys.readouterr().out
    assert not list((tmp_path / "a").glob("*.partial"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": [4]}, r"seeds=\[4, 2\] instead of \[4\]"),
        ({"initial": None}, r"initial=\[0.2, 2\] instead of None"),
        (
            {"stages": [(0.1, 3)]},
            r"stages=\[\[0.1, 3\], \[0.05, 4\]\] instead of \[\[0.1, 3\]\]",
        ),
    ],
)
def test_other_settings_are_refused(
    model, one_compilation, tmp_path, arguments, message
):
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, os, "replace", 3)
        with pytest.raises(KeyboardInterrupt):
            go(model, tmp_path)
    with pytest.raises(ValueError, match=message):
        go(model, tmp_path, **arguments)


def test_other_optimizer_or_batch_size_is_refused(model, tmp_path):
    go(model, tmp_path)
    with pytest.raises(ValueError, match="batch_size=4 instead of 5"):
        go(model, tmp_path, batch_size=5)
    with pytest.raises(ValueError, match="mode=independent instead of paper"):
        go(model, tmp_path, mode="paper")
    with pytest.raises(ValueError, match=r"momentum=0.9 instead of 0.5.*l2"):
        go(least_squares(0.5, 0.3, l2=0.0), tmp_path)


def test_numbers_of_numpy_are_kept(model, tmp_path):
    """Settings that come from `np.geomspace` or `np.arange`."""
    found = go(
        model,
        tmp_path,
        stages=[(rate, np.int64(4)) for rate in np.geomspace(0.05, 0.1, 2)],
        seeds=np.arange(2),
        batch_size=np.int64(4),
    )
    assert landscape.SweepResults.load(tmp_path) == found
