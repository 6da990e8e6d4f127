"""The examples' runner of the paper's figures, and the paper's models in them."""

import gc
import json

import figure_cases
import numpy as np
import pytest
from figure_cases import PROTOCOL

# Beside each other in `examples/`, which `figure_cases` has put on the path.
# isort: split
import cifar10_cnn
import command_line
import data
import figure_runs
import jobs
import mnist_mlp

from keras_fdr import landscape


class Reports(list):
    """In place of the queue to the process that waits; can stop the run."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after

    def put(self, report):
        self.append(report)
        if sum(new for new, earlier in self if not earlier) == self.stop_after:
            raise KeyboardInterrupt


def figure(number, *arguments):
    command_line.main(PROTOCOL, "", ["--figure", str(number), *map(str, arguments)])


def arguments(tmp_path, number):
    args = command_line.parse(PROTOCOL, "", ["--figure", str(number)])
    args.work = tmp_path
    return args


# Models and data.


def test_cnn_is_that_of_appendix_b2():
    model = figure_runs.compiled(cifar10_cnn.network(), 0.9)
    shapes = [layer.output.shape[1:] for layer in model.layers]
    maps = [(32, 16), (16, 16), (16, 20), (8, 20), (8, 20), (4, 20)]
    assert shapes == [(w, w, c) for w, c in maps] + [(320,), (10,)]
    kernels = (5 * 5 * 3 + 1) * 16 + (5 * 5 * 16 + 1) * 20 + (5 * 5 * 20 + 1) * 20
    assert model.count_params() == kernels + (320 + 1) * 10 == 22_466
    assert_papers_optimizer(model, 0.9)


def test_mlp_is_that_of_appendix_b1():
    model = figure_runs.compiled(mnist_mlp.network(), 0.0)
    assert model.count_params() == 785 * 200 + 201 * 200 + 201 * 10
    assert_papers_optimizer(model, 0.0)


def assert_papers_optimizer(model, momentum):
    optimizer = model.optimizer
    assert (optimizer.momentum, optimizer.dampening) == (momentum, 0.0)
    assert optimizer.l2 == 0.01
    assert float(optimizer.learning_rate) == np.float32(0.1)
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            inputs, outputs = (
                np.prod(layer.kernel.shape[:-2], initial=1.0) * n
                for n in layer.kernel.shape[-2:]
            )
            # Xavier: variance 2/(in + out). The sample's has a relative error of
            # about √(2/n); five of them.
            values = layer.kernel.numpy()
            error = 5 * np.sqrt(2 / values.size)
            expected = 2 / (inputs + outputs)
            assert values.var() == pytest.approx(expected, rel=error)


def test_pixels():
    """As in B.2 black is −1 and white 1; as in B.1 mean 0 and variance 1."""
    (x, y), (x_test, _) = data.load("digits", normalize="range")
    assert (x.min(), x.max(), x_test.min(), x_test.max()) == (-1, 1, -1, 1)
    (standard, labels), _ = data.load("digits")
    assert standard.mean() == pytest.approx(0, abs=1e-5)
    assert standard.var() == pytest.approx(1, rel=1e-5)
    np.testing.assert_array_equal(y, labels)
    scale = standard.std() / x.std()
    np.testing.assert_allclose(standard, (x - x.mean()) * scale, atol=1e-5)
    with pytest.raises(ValueError, match='"variance" or "range". Received: \'max\''):
        data.load("digits", normalize="max")


# Runs that are stopped.


# A log that nobody closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_stopped_schedule_goes_on_to_the_same_history(tmp_path, monkeypatch):
    args = arguments(tmp_path, 4)

    def train(name, folder, stop_after=None):
        monkeypatch.setattr(jobs, "_queue", reports := Reports(stop_after))
        history = figure_runs.train_schedule(PROTOCOL, args, name, 1, tmp_path / folder)
        return history, reports

    whole, reports = train("preset", "whole")
    assert whole["learning_rate"] == pytest.approx([0.1, 0.01, 0.001, 0.0001])
    assert all(len(values) == 4 for values in whole.values())
    assert reports == [(0, True), *[(1, False)] * 4]
    with pytest.raises(KeyboardInterrupt):
        train("preset", "stopped", stop_after=3)
    gc.collect()
    again, reports = train("preset", "stopped")
    assert again == whole
    assert reports == [(3, True), (1, False)]


def test_initial_run_goes_on_and_once_finished_is_read(tmp_path, monkeypatch):
    records = []
    for folder, stops in (("whole", [None]), ("stopped", [1, None, None])):
        args = arguments(tmp_path / folder, 1)
        (args.work / "initial").mkdir(parents=True)
        for stop_after in stops:
            monkeypatch.setattr(jobs, "_queue", Reports(stop_after))
            if stop_after:
                with pytest.raises(KeyboardInterrupt):
                    figure_runs.train_initial(PROTOCOL, args, 2)
            else:
                records.append(figure_runs.train_initial(PROTOCOL, args, 2))
    assert records[0] == records[1] == records[2]
    assert records[0]["steps"] == 10


def test_log_of_an_epoch_that_came_twice(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("epoch,a,b\n0,1,nan\n1,2,5\n1,3,6\n")
    assert figure_runs.read_log(log) == {"a": [1.0, 3.0], "b": [None, 6.0]}


def test_folders(tmp_path):
    folder = tmp_path / "a" / "b"
    jobs.prepare(folder, False, epochs=3)
    with pytest.raises(SystemExit, match="only with --resume.*Received: .*b$"):
        jobs.prepare(folder, False, epochs=3)
    jobs.prepare(folder, True, epochs=3)
    with pytest.raises(SystemExit, match="'epochs': 4} instead of {'epochs': 3}"):
        jobs.prepare(folder, True, epochs=4)


# The whole runner, in processes.


@pytest.mark.process
def test_figure_3_runs_figure_1_and_its_seeds_in_processes(tmp_path, capsys):
    """What a sweep with both seeds finds."""
    figure(3, "--output", tmp_path, "--processes", 2)
    printed = capsys.readouterr().out
    assert "Figure 1 runs first, at the same scale" in printed
    assert "18/18" in printed and "No verdict" in printed
    assert "--figure 3 --scale 1 --seeds 3 --examples 0" in printed
    pictures = {path.stem for path in tmp_path.glob("*.png")}
    assert pictures == {"small_figure1", "small_figure2", "small_figure3"}
    kept = json.loads((tmp_path / "small_paper.json").read_text())
    assert (kept["scale"], kept["initial_scale"], kept["examples"]) == (0.03, 0.03, 500)

    model = figure_runs.compiled(figure_cases.network(), 0.5)
    model.load_weights(tmp_path / "small_runs" / "initial" / "end.weights.h5")
    (x, y), _ = data.load("digits", normalize="range")
    whole = landscape.sweep(
        model,
        (x[:500], y[:500]),
        [(0.05, 3), (0.02, 6)],
        seeds=2,
        mode="paper",
        verbose=0,
    )
    assert kept["settings"] == whole.settings
    for one, other in zip(kept["rows"], whole.rows, strict=True):
        one, other = dict(one), other.to_dict()
        del one["series"], other["series"]
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)

    with pytest.raises(SystemExit, match="only with --resume"):
        figure(3, "--output", tmp_path)
    with pytest.raises(SystemExit, match="settings it began with"):
        figure(3, "--output", tmp_path, "--resume", "--full-batch-every", 2)


@pytest.mark.process
@pytest.mark.slow
def test_resumed_runs_do_what_is_missing(tmp_path):
    figure(3, "--output", tmp_path, "--processes", 2)
    kept = json.loads((tmp_path / "small_paper.json").read_text())
    seed_1 = tmp_path / "small_runs" / "paper_scale_0.03_examples_500" / "seed_1"
    for file in seed_1.iterdir():
        file.unlink()
    figure(2, "--output", tmp_path, "--resume", "--processes", 2)
    again = json.loads((tmp_path / "small_paper.json").read_text())
    assert again["rows"] == kept["rows"]
    figure(1, "--output", tmp_path, "--resume", "--scale", 0.03)


def test_drawing_needs_the_json_alone(tmp_path, capsys):
    with pytest.raises(SystemExit, match="without --draw.*small_figure4.json"):
        figure(4, "--draw", "--output", tmp_path)
    columns = ("learning_rate", "full_batch_loss", "full_batch_accuracy")
    run = {name: [0.1, None] for name in (*columns, "val_accuracy", "fdr_ratio")}
    content = {"scale": 0.5, "histories": {"preset": run, "adaptive": run}}
    (tmp_path / "small_figure4.json").write_text(json.dumps(content))
    figure(4, "--draw", "--output", tmp_path)
    assert "small_figure4.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "wrong", "message"),
    [
        (1, ["--scale", "0"], "--scale: it must be above 0. Received: 0"),
        (1, ["--seeds", "2"], "unrecognized arguments: --seeds 2"),
        (2, ["--seeds", "0"], "--seeds: it must be at least 1. Received: 0"),
        (3, ["--examples", "99"], "must be 0 or at least 100, one batch. Received: 99"),
    ],
)
def test_wrong_arguments(capsys, number, wrong, message):
    with pytest.raises(SystemExit):
        figure(number, *wrong)
    assert message in capsys.readouterr().err


def test_help_is_that_of_the_figure(capsys):
    for number, has in ((1, False), (3, True)):
        with pytest.raises(SystemExit):
            figure(number, "--help")
        shown = capsys.readouterr().out
        assert f"Figure {number}: " in shown and ("--seeds" in shown) == has
