"""The table of a sweep: its rows, its data frame, and rows of older versions."""

import dataclasses
import json
import math
import pickle
import sys

import numpy as np
import pytest
from landscape_cases import table

from keras_fdr.landscape import SweepResults, SweepRow, fit

FIELDS = [field.name for field in dataclasses.fields(SweepRow)]


def test_rows_are_values():
    row = SweepRow(0, 1, 0.1, full_batch_loss=2.0)
    assert row == SweepRow(0, 1, 0.1, full_batch_loss=2.0)
    assert row != SweepRow(0, 1, 0.1, full_batch_loss=2.5)
    assert hash(row) == hash(dataclasses.replace(row, series={"steps": [1]}))
    shown = dataclasses.replace(row, series={"steps": list(range(1000))})
    assert repr(shown) == (
        "SweepRow(seed=0, stage=1, learning_rate=0.1, full_batch_loss=2, "
        "full_batch_dissipation=nan)"
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.full_batch_loss = 3.0


def test_what_was_not_measured_is_nan_and_not_in_the_file():
    row = SweepRow(0, 1, 0.1, steps=7, series={"steps": [1]})
    assert math.isnan(row.fluctuation)
    written = row.to_dict()
    assert written == {
        "seed": 0,
        "stage": 1,
        "learning_rate": 0.1,
        "steps": 7,
        "passes": 0,
        "series": {"steps": [1]},
    }
    assert SweepRow.from_dict(written) == row


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": 3}, r"no other names than steps.*Received: a row with.*'stages'"),
        ({"stage": None}, r"must have `seed`, `stage`.*\['learning_rate', 'seed'\]"),
    ],
)
def test_other_rows_are_refused(change, message):
    values = {"seed": 0, "stage": 1, "learning_rate": 0.1} | change
    values = {name: value for name, value in values.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        SweepResults({}, [values])


def test_columns_are_numbers_that_some_row_has():
    results = SweepResults({}, [SweepRow(0, 0, 0.1, dissipation=2.0)])
    assert results.column("dissipation").tolist() == [[2.0]]
    assert results.column("learning_rate").tolist() == [[0.1]]
    with pytest.raises(ValueError, match="column 'fluctuation'.*1 rows without it"):
        results.column("fluctuation")
    for name in ("series", "seed", "stage", "loss"):
        with pytest.raises(ValueError, match=f"steps, passes.*name='{name}'"):
            results.column(name)
    partial = SweepResults({}, [*results.rows, SweepRow(1, 0, 0.1)])
    assert partial.column("dissipation")[0, 0] == 2.0
    assert math.isnan(partial.column("dissipation")[1, 0])


def test_data_frame():
    pytest.importorskip("pandas")
    results = table(o_fb=lambda rate, seed: rate + seed)
    frame = results.to_dataframe()
    assert frame.columns.tolist() == [name for name in FIELDS if name != "series"]
    assert len(frame) == 12
    assert frame.seed.dtype == frame.stage.dtype == "int64"
    for (_, line), row in zip(frame.iterrows(), results.rows, strict=True):
        assert line.full_batch_dissipation == row.full_batch_dissipation
    means = frame.groupby("learning_rate").full_batch_dissipation.mean()
    assert means[0.2] == pytest.approx(
        results.column("full_batch_dissipation")[:, 1].mean()
    )
    assert SweepResults({}).to_dataframe().columns.tolist() == frame.columns.tolist()


def test_data_frame_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"keras-fdr\[pandas\]"):
        table().to_dataframe()


def test_dictionaries_become_rows(tmp_path):
    """JSON gives them, as do files and pickles of older versions."""
    wanted = table()
    rows = [row.to_dict() for row in wanted.rows]
    assert SweepResults(wanted.settings, rows) == wanted

    path = tmp_path / "sweep.json"
    path.write_text(json.dumps({"settings": wanted.settings, "rows": rows}))
    assert SweepResults.load(path) == wanted

    old = SweepResults(wanted.settings)
    old.rows[:] = rows  # As an older version kept them.
    assert pickle.loads(pickle.dumps(old)) == wanted
    assert pickle.loads(pickle.dumps(wanted)) == wanted


@pytest.mark.parametrize(
    ("settings", "rows", "words"),
    [
        (None, [], "`settings` must be a dictionary.*settings=None"),
        ([("mode", "paper")], [], "`settings` must be a dictionary"),
        ({}, None, "`rows` must be a list.*rows=None"),
        ({}, "rows", "`rows` must be a list.*rows='rows'"),
        ({}, [1], r"`rows` must be a list.*rows=\[1\]"),
    ],
)
def test_what_is_not_a_table_is_refused(settings, rows, words):
    with pytest.raises(TypeError, match=words):
        SweepResults(settings, rows)


@pytest.mark.parametrize("path", [None, 1, b"x", ["x"]])
def test_what_is_not_a_path_is_refused(path):
    for function in (table().save, SweepResults.load):
        with pytest.raises(TypeError, match="`path` must be a file name.*Received"):
            function(path)


def test_missing_settings_are_named():
    results = table()
    del results.settings["momentum"]
    with pytest.raises(ValueError, match="must have `momentum`. Received: settings="):
        fit(results)


@pytest.mark.parametrize("name", [None, 1, "nonsense", "seed", np.zeros(2)])
def test_other_names_of_columns_are_refused(name):
    with pytest.raises(ValueError, match="`name` must be one of.*Received: name="):
        table().column(name)


def test_a_row_is_read_like_one_of_a_table():
    row = SweepRow(seed=0, stage=1, learning_rate=0.1)
    assert row["stage"] == 1
    with pytest.raises(KeyError, match="loss"):
        row["loss"]
