"""The pictures show the numbers of the record and of the histories."""

import sys

import numpy as np
import pytest

from keras_fdr import Record, landscape, plots


@pytest.fixture
def record(rng):
    return Record(rng.uniform(1, 2, (40, 5)), steps=79, block_length=2)


def curves(axis):
    return [np.stack(line.get_data()) for line in axis.lines]


def test_equilibration(record, tmp_path):
    path = tmp_path / "figure1.png"
    figure, (top, bottom) = plots.equilibration(record, path, title="a run")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert figure.axes == [top, bottom]
    for axis in (top, bottom):
        assert axis.get_xscale() == "log"
    assert bottom.get_yscale() == "log"
    np.testing.assert_array_equal(curves(top)[0], np.stack(record.block_means("loss")))
    np.testing.assert_array_equal(curves(top)[1], np.stack(record.series("loss")))
    for name, curve in zip(("dissipation", "fluctuation"), curves(bottom), strict=True):
        np.testing.assert_array_equal(curve, np.stack(record.series(name)))


def test_equilibration_without_loss(record):
    record.sums[:, 4] = np.nan
    assert len(plots.equilibration(record)[1]) == 1


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
    _, (eta, loss, accuracy) = plots.schedule(runs, path)
    assert eta.get_shared_x_axes().joined(eta, loss)
    assert eta.get_shared_x_axes().joined(eta, accuracy)
    assert path.exists()
    assert [c[1].tolist() for c in curves(eta)] == [[0.1, 0.01], [0.1, 0.09]]
    assert [c[1].tolist() for c in curves(loss)] == [[2.0, 1.0], [2.5, 1.5]]
    drawn = [c[1].tolist() for c in curves(accuracy) if c.size]
    assert drawn == [[0.5, 0.6], [0.4, 0.5]]
    assert [line.get_linestyle() for line in accuracy.lines[-2:]] == ["-", "--"]
    assert curves(accuracy)[-1][0].tolist() == [1, 2]


def test_schedule_takes_colors():
    runs = {"preset": {"loss": [2.0, 1.0]}, "adaptive": {"loss": [2.0, 1.5]}}
    _, (axis,) = plots.schedule(runs, colors=["black", "blue"])
    assert [line.get_color() for line in axis.lines] == ["black", "blue"]
    with pytest.raises(ValueError, match=r"colour a run, here 2. Received: .*'black'"):
        plots.schedule(runs, colors=["black"])


def test_refused_sources():
    with pytest.raises(TypeError, match="`source` must be .*`Record`.*source=3"):
        plots.equilibration(3)
    with pytest.raises(TypeError, match="`source` must be .*logs.*source=3"):
        plots.schedule({"run": 3})
    with pytest.raises(TypeError, match="one number an epoch. Received: loss="):
        plots.schedule({"loss": ["low", "high"]})
    with pytest.raises(ValueError, match=r"at least one of .*columns \['lr'\]"):
        plots.schedule({"run": {"lr": [0.1]}})


def test_without_matplotlib(record, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'keras-fdr\[plots\]'"):
        plots.equilibration(record)


def test_schedule_leaves_out_epochs_without_a_pass():
    run = {"loss": [3.0, 2.0, 1.0], "full_batch_loss": [np.nan, 2.5, np.nan]}
    _, (axis,) = plots.schedule({"run": run})
    np.testing.assert_array_equal(curves(axis)[0], [[2], [2.5]])


def sweep_results(seeds=(0, 1), drift=0.0, ratio=(1.0, 1.0)):
    """O_FB = 3η, ±10% between the seeds; (η/2)⟨vᵀHv⟩ = 3η."""
    settings = {"mode": "independent", "momentum": 0.0, "dampening": 0.0}
    rows = [
        {
            "seed": seed,
            "stage": stage,
            "learning_rate": rate,
            "full_batch_dissipation": (3.3 - 0.6 * seed) * rate,
            "full_batch_drift": drift * rate,
            "velocity_curvature": 6.0,
            "noise_curvature": 6.0,
            "gradient_norm_squared": 2.0,
            "dissipation": ratio[seed] * rate,
            "fluctuation": rate,
            "series": {
                "steps": [1, 2, 4],
                "dissipation": [-1.0, 3.0, 2.0 + seed],
                "fluctuation": [2.0, 2.0, 2.0 + seed],
            },
        }
        for seed in seeds
        for stage, rate in enumerate((0.2, 0.1))
    ]
    return landscape.SweepResults(settings, rows)


def test_landscape_shows_points_bars_and_the_papers_line(tmp_path):
    path = tmp_path / "figure3.png"
    found = landscape.fit(sweep_results())
    _, (top, bottom) = plots.landscape(found, path)
    assert path.exists()
    line = curves(top)[-1]
    np.testing.assert_allclose(line, [[0, 0.2], [0, 0.6]], rtol=1e-12)
    drawn = [(c.lines[0].get_xydata()[0], c.lines[2][0]) for c in top.containers]
    for (point, bar), eta, estimate in zip(
        drawn, found.learning_rates, found.full_batch_dissipation, strict=True
    ):
        np.testing.assert_allclose(point, [eta, estimate.value])
        ends = np.array(bar.get_segments())[0, :, 1]
        np.testing.assert_allclose(ends, [estimate.low, estimate.high])
    labels = {text.get_text() for text in bottom.get_legend().get_texts()}
    assert labels == {"residual", "nonlinearity"}


def test_landscape_leaves_drifting_stages_open():
    for drift, face in ((0.0, "C0"), (1.0, "none")):
        _, (top, _) = plots.landscape(sweep_results(drift=drift))
        for container in top.containers:
            assert container.lines[0].get_markerfacecolor() == face


@pytest.mark.parametrize(
    ("seeds", "ratio", "filled"),
    [
        ((0, 1), (1.2, 1.2), False),
        ((0, 1), (1.2, 1.3), True),  # [0.61, 1.89]: not shown.
        ((0,), (1.06, None), False),  # Without an interval the ratio counts.
        ((0,), (1.04, None), True),
    ],
)
def test_landscape_leaves_stages_open_whose_sides_did_not_meet(seeds, ratio, filled):
    _, (top, _) = plots.landscape(sweep_results(seeds, ratio=ratio))
    faces = [c.lines[0].get_markerfacecolor() for c in top.containers]
    assert faces == ["C0" if filled else "none"] * 2


def test_sequential_runs_name_the_ratio_of_stages_that_did_not_meet():
    results = sweep_results()
    # Only the last point of each side counts.
    results.rows[1].series["dissipation"][-1] *= 2.4
    results.rows[1].series["fluctuation"][-1] *= 2
    results.rows[0].series["dissipation"][-1] *= 1.04
    _, axis = plots.sequential_runs(results)
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert [("not met" in label, "= 1.2" in label) for label in labels] == [
        (False, False),
        (True, True),
    ]


def test_sequential_runs_have_a_color_for_each_stage():
    rows = sweep_results((0,)).rows[:1] * 11  # As many as the paper's CNN has.
    _, axis = plots.sequential_runs(landscape.SweepResults({}, rows))
    assert len({tuple(line.get_color()) for line in axis.lines}) == 11


def test_landscape_of_one_seed_and_of_two_modes(tmp_path):
    sweep_results().save(tmp_path / "sweep.json")
    one = landscape.fit(sweep_results(seeds=(0,)))
    _, (top, _) = plots.landscape({"one": one, "two": tmp_path})
    labels = [text.get_text() for text in top.get_legend().get_texts()]
    assert labels == ["one: O_FB", "two: O_FB"]
    assert [bool(c.has_yerr) for c in top.containers] == [False] * 2 + [True] * 2


def test_sequential_runs(tmp_path):
    path = tmp_path / "figure2.png"
    _, axis = plots.sequential_runs(sweep_results(), seed=1, path=path)
    assert path.exists()
    drawn = curves(axis)
    assert len(drawn) == 4
    np.testing.assert_array_equal(drawn[0], [[1, 2, 4], [2.0, 2.0, 3.0]])
    np.testing.assert_array_equal(drawn[1], [[1, 2, 4], [-1.0, 3.0, 3.0]])
    assert [line.get_linestyle() for line in axis.lines] == ["-", ":"] * 2


def test_refused_sweeps():
    with pytest.raises(TypeError, match="`results` must be `SweepResults`"):
        plots.landscape(3)
    with pytest.raises(TypeError, match="`results` must be `SweepResults`"):
        plots.sequential_runs(3)
    with pytest.raises(ValueError, match=r"finished a stage: \[0, 1\].*seed=7"):
        plots.sequential_runs(sweep_results(), seed=7)


@pytest.mark.parametrize("source", [None, 1, [], np.zeros(3)])
def test_refused_histories(source):
    with pytest.raises(TypeError, match="`source` must be.*Received: source="):
        plots.schedule(source)
