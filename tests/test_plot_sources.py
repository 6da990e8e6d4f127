"""Each plot takes what a user has of a run, and draws on the user's axes."""

import keras
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from keras_fdr import FDRSGD, FDRCallback, FDRObservables, Record, Verdict, plots

EPOCHS, STEPS = 4, 4


def cuts_after(*epochs):
    """A rule that is stationary at the end of the given epochs, counted from 1."""
    seen = []

    def rule(record):
        if len(record.names) == 2:  # That of a single weight tensor.
            return Verdict("drifting", record.ratio, record.steps, "A tensor.")
        seen.append(record.steps)
        status = "stationary" if len(seen) in epochs else "drifting"
        return Verdict(status, record.ratio, record.steps, "Chosen by the test.")

    return rule


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with cuts after epochs 2 and 4, hence an empty record at the end."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 3)).astype("float32")
    y = (x[:, 0] > 0).astype("float32")
    layers = [keras.Input((3,)), keras.layers.Dense(1, "sigmoid", name="dense")]
    model = keras.Sequential(layers)
    observables = FDRObservables(per_variable=True)
    optimizer = FDRSGD(0.1, l2=0.01, observables=observables)
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"])
    callback = FDRCallback(rule=cuts_after(2, 4), factor=0.5, all_columns=True)
    path = tmp_path_factory.mktemp("run") / "log.csv"
    callbacks = [callback, keras.callbacks.CSVLogger(path)]
    history = model.fit(
        x,
        y,
        batch_size=8,
        epochs=EPOCHS,
        validation_data=(x, y),
        callbacks=callbacks,
        verbose=0,
    )
    return {"callback": callback, "history": history, "model": model, "csv": path}


def lines(axis):
    return [line for line in axis.lines if line.get_gid() != "cut"]


def marks(axis):
    return [line.get_xdata()[0] for line in axis.lines if line.get_gid() == "cut"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("history", [2.5, 4.5]),
        ("callback", [2.5, 4.5]),
        ("model", [2.5, 4.5]),
        # The rates in the logs cannot show a cut after the last epoch.
        ("csv", [2.5]),
    ],
)
def test_schedule_takes_every_source(run, source, expected):
    figure, axes = plots.schedule(run[source])
    assert isinstance(figure, Figure) and figure.axes == list(axes)
    assert [axis.get_ylabel() for axis in axes] == [
        "learning rate $\\eta$",
        "loss",
        "accuracy",
        "dissipation / fluctuation",
    ]
    logs = run["history"].history
    columns = (
        ("fdr_learning_rate",),
        ("loss", "val_loss"),
        ("accuracy", "val_accuracy"),
        ("fdr_ratio",),
    )
    for axis, names in zip(axes, columns, strict=True):
        assert marks(axis) == expected
        for line, name in zip(lines(axis), names, strict=False):
            np.testing.assert_allclose(line.get_ydata(), logs[name], rtol=1e-6)
            assert line.get_xdata().tolist() == [1, 2, 3, 4]
    for axis in axes[1:3]:
        names = [text.get_text() for text in axis.get_legend().get_texts()]
        assert names == ["training", "validation"]


def test_schedule_counts_epochs_as_fit_does(run):
    history = keras.callbacks.History()
    history.history, history.epoch = {"loss": [2.0, 1.0]}, [5, 6]
    _, [axis] = plots.schedule(history)
    assert lines(axis)[0].get_xdata().tolist() == [6, 7]


def test_legends_of_runs_and_of_styles():
    run = {"loss": [2.0, 1.0], "val_loss": [3.0, 2.0]}
    _, [axis] = plots.schedule({"a": run, "b": run})
    legends = [child for child in axis.get_children() if isinstance(child, Legend)]
    texts = {tuple(text.get_text() for text in one.get_texts()) for one in legends}
    assert len(legends) == 2
    assert texts == {("a", "b"), ("training", "validation")}
    _, [axis] = plots.schedule(run)
    legends = [child for child in axis.get_children() if isinstance(child, Legend)]
    assert len(legends) == 1


def test_cuts_of_an_earlier_fit_are_left_out(run):
    """Both count from epoch 1. The rates tell which `fit` a cut belongs to."""
    history = keras.callbacks.History()
    history.history = {"fdr_learning_rate": [0.1, 0.1, 0.03, 0.03]}
    history.epoch = range(4)
    history.set_model(run["model"])
    assert marks(plots.schedule(history)[1][0]) == [2.5]


def test_equilibration_of_every_source(run, tmp_path):
    record = run["callback"].record
    assert record.steps == 2 * STEPS
    record.save(tmp_path / "record")
    for source in (run["callback"], record, tmp_path / "record"):
        _, axes = plots.equilibration(source)
        drawn = np.stack(axes[-1].lines[0].get_data())
        np.testing.assert_array_equal(drawn, record.series("dissipation"))


@pytest.mark.parametrize("source", ["history", "model", "csv"])
def test_equilibration_without_a_record(run, source):
    with pytest.raises(ValueError, match="at least one step since.*Received: source="):
        plots.equilibration(run[source])


def test_layers_of_every_source():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="a")])
    model.compile(FDRSGD(0.1, observables=FDRObservables(per_variable=True)), "mse")
    callback = FDRCallback(factor=None)
    with pytest.warns(UserWarning, match="no L2 term"):
        history = model.fit(
            np.ones((4, 3)), np.ones(4), verbose=0, callbacks=[callback]
        )
    for source in (model, history, callback):
        labels = [t.get_text() for t in plots.layers(source)[1].get_yticklabels()]
        assert [label.split("/")[-1] for label in labels] == ["kernel", "bias"]


def test_nothing_to_plot(tmp_path):
    for source in (FDRCallback(), FDRSGD(0.1), FDRObservables()):
        with pytest.raises(ValueError, match="one step since the last cut.*Received"):
            plots.equilibration(source)
        with pytest.raises(ValueError, match=r"at least one of .*columns \[\]"):
            plots.schedule(source)
    (tmp_path / "epochs.txt").write_text("Epochs were fine.\n")
    with pytest.raises(ValueError, match="`Record.save` wrote. Received"):
        plots.schedule(tmp_path / "epochs.txt")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_files_of_csv_loggers(tmp_path, separator):
    path = tmp_path / "log.csv"
    rows = (["epoch", "loss", "val_loss"], ["3", "2.0", "NA"], ["4", "1.0", "3.0"])
    path.write_text("\n".join(separator.join(row) for row in rows))
    _, [axis] = plots.schedule(str(path))
    (x, y), (x_validation, y_validation) = (line.get_data() for line in axis.lines)
    assert [x.tolist(), y.tolist()] == [[4, 5], [2, 1]]
    assert [x_validation.tolist(), y_validation.tolist()] == [[5], [3]]


def test_axes_of_the_user(run, tmp_path):
    figure = Figure()
    mine = figure.subplots(3, 2)
    found, axes = plots.schedule(run["history"], ax=mine[:2, :])
    assert found is figure and list(axes) == list(mine[:2].flat)
    found, [axis] = plots.equilibration(
        run["callback"], ax=mine[2, 0], title="below", path=tmp_path / "all.png"
    )
    assert axis is mine[2, 0] and axis.get_title() == "below"
    assert figure.get_suptitle() == "" and (tmp_path / "all.png").exists()
    with pytest.raises(ValueError, match=r"one `Axes` for each panel, here 4: .*: 1$"):
        plots.schedule(run["history"], ax=mine[0, 0])
    with pytest.raises(TypeError, match="`ax` must be a matplotlib `Axes`.*ax=3"):
        plots.schedule(run["history"], ax=3)


@pytest.mark.parametrize(
    ("low", "high"),
    [(1.2, 1.4), (0.29, 1.13), (1, 9), (2, 300), (1e-7, 1e3)],
)
def test_log_ticks_have_labels(low, high):
    """Also over less than a decade, where powers of ten alone would leave none."""
    figure, [axis] = plots.schedule({"loss": np.geomspace(low, high, 20)})
    figure.draw_without_rendering()
    limits = axis.get_ylim()
    ticks = axis.yaxis.get_major_ticks()
    ticks = [t for t in ticks if limits[0] <= t.get_loc() <= limits[1]]
    texts = [tick.label1.get_text() for tick in ticks]
    assert 3 <= len(texts) <= 11 and all(texts) and len(set(texts)) == len(texts)
    for text, tick in zip(texts, ticks, strict=True):
        if "$" not in text:
            assert float(text) == pytest.approx(tick.get_loc(), rel=1e-4)
    assert not any(t.label1.get_text() for t in axis.yaxis.get_minor_ticks())


def test_ratios_below_zero_are_drawn():
    for ratios, scale in (([-3.0, 0.5], "linear"), ([-3.0, 90.0], "symlog")):
        _, [axis] = plots.schedule({"fdr_ratio": ratios})
        assert axis.get_yscale() == scale and axis.get_ylim()[0] < -3


def test_constant_rate_is_in_the_middle():
    _, [axis] = plots.schedule({"learning_rate": [0.001] * 4})
    assert np.prod(axis.get_ylim()) == pytest.approx(0.001**2)


def test_losses_below_zero_are_drawn():
    _, [axis] = plots.schedule({"loss": [-3.0, -4.0]})
    assert axis.get_yscale() == "linear"


def test_sweeps_draw_on_axes_of_the_user():
    from test_plots import sweep_results

    figure = Figure()
    top, bottom, single = figure.subplots(3)
    assert list(plots.landscape(sweep_results(), ax=[top, bottom])[1]) == [top, bottom]
    assert plots.sequential_runs(sweep_results(), ax=single)[1] is single


def test_record_without_steps_is_refused():
    with pytest.raises(ValueError, match="Received: source=Record"):
        plots.equilibration(Record.empty())
