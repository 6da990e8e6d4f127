"""The pictures show the numbers of the record and of the histories."""

import sys

import numpy as np
import pytest

from keras_fdr import FDRSGD, Record, plots


@pytest.fixture
def record(rng):
    return Record(rng.uniform(1, 2, (40, 5)), steps=79, block_length=2)


def curves(axis):
    return [np.stack(line.get_data()) for line in axis.lines]


def test_equilibration(record, tmp_path):
    path = tmp_path / "figure1.png"
    figure = plots.equilibration(record, path, title="a run")
    assert path.read_bytes().startswith(b"\x89PNG")
    top, bottom = figure.axes
    for axis in (top, bottom):
        assert axis.get_xscale() == "log"
    assert bottom.get_yscale() == "log"
    np.testing.assert_array_equal(curves(top)[0], np.stack(record.block_means("loss")))
    np.testing.assert_array_equal(curves(top)[1], np.stack(record.series("loss")))
    for name, curve in zip(("dissipation", "fluctuation"), curves(bottom), strict=True):
        np.testing.assert_array_equal(curve, np.stack(record.series(name)))


def test_equilibration_of_a_file_and_of_an_optimizer(record, tmp_path):
    record.save(tmp_path / "r")
    assert len(plots.equilibration(tmp_path / "r").axes) == 2
    assert len(plots.equilibration(FDRSGD(0.1)).axes) == 1


def test_equilibration_without_loss(record):
    record.sums[:, 4] = np.nan
    assert len(plots.equilibration(record).axes) == 1


def test_schedule(tmp_path):
    runs = {
        "preset": {"learning_rate": [0.1, 0.01], "loss": [2.0, 1.0]},
        "adaptive": {
            "learning_rate": [0.1, 0.09],
            "loss": [9.0, 9.0],
            "full_batch_loss": [2.5, 1.5],
            "accuracy": [0.5, 0.6],
            "val_accuracy": [0.4, 0.5],
        },
    }
    path = tmp_path / "figure4.png"
    eta, loss, accuracy = plots.schedule(runs, path).axes
    assert path.exists()
    assert [c[1].tolist() for c in curves(eta)] == [[0.1, 0.01], [0.1, 0.09]]
    assert [c[1].tolist() for c in curves(loss)] == [[2.0, 1.0], [2.5, 1.5]]
    drawn = [c[1].tolist() for c in curves(accuracy) if c.size]
    assert drawn == [[0.5, 0.6], [0.4, 0.5]]
    assert [line.get_linestyle() for line in accuracy.lines[-2:]] == ["-", "--"]
    assert curves(accuracy)[-1][0].tolist() == [1, 2]


def test_refused_sources():
    with pytest.raises(TypeError, match="`source` must be a `Record`.*source=3"):
        plots.equilibration(3)
    with pytest.raises(TypeError, match="dictionary of lists. Received: 3"):
        plots.schedule({"run": 3})
    with pytest.raises(ValueError, match=r"at least one of .*Received: \['lr'\]"):
        plots.schedule({"run": {"lr": [0.1]}})


def test_without_matplotlib(record, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'keras-fdr\[plots\]'"):
        plots.equilibration(record)
