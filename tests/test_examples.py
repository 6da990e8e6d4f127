"""The examples and the README's code run as a user would run them."""

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from keras_fdr import landscape

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "examples" / "results"
TFDS = Path(os.environ.get("TFDS_DATA_DIR", "")) / "mnist"
needs_mnist = pytest.mark.skipif(
    "TFDS_DATA_DIR" not in os.environ or not TFDS.exists(),
    reason="needs TFDS_DATA_DIR with a prepared MNIST",
)


def run(*arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


EXAMPLES = (
    "cifar10_cnn",
    "export_savedmodel",
    "landscape",
    "mnist_mlp",
    "multi_worker",
    "quickstart",
)


@pytest.mark.parametrize("name", EXAMPLES)
def test_help_does_not_wait_for_tensorflow(name, tmp_path):
    path = ROOT / "examples" / f"{name}.py"
    code = f"""
import runpy, sys
sys.path.insert(0, {str(path.parent)!r})
sys.argv = [{str(path)!r}, "--help"]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    assert end.code == 0
else:
    raise AssertionError("no --help")
assert not {{"keras", "keras_fdr", "tensorflow"}} & set(sys.modules)
"""
    assert "usage:" in run("-c", code, cwd=tmp_path)


@pytest.mark.process
def test_quickstart(tmp_path):
    """The main job at its defaults: columns, a cut or more, two pictures, a report."""
    printed = run(ROOT / "examples" / "quickstart.py", cwd=tmp_path)
    assert "fdr_ratio" in printed
    (cuts,) = re.findall(r"^(\d+) cuts:", printed, flags=re.MULTILINE)
    assert int(cuts) == printed.count("so the learning rate was cut from") >= 1
    names = {
        "quickstart_schedule.png",
        "quickstart_equilibration.png",
        "quickstart_report.html",
    }
    assert {p.name for p in tmp_path.iterdir()} == names


@pytest.mark.process
def test_landscape(tmp_path):
    """The protocol in small, twice: the second call finds everything finished."""
    arguments = ("--scale", 0.02, "--seeds", 2)
    printed = run(ROOT / "examples" / "landscape.py", *arguments, cwd=tmp_path)
    assert "Tr(HC) by FDR2" in printed and "Tr(HC) by products" in printed
    table = tmp_path / "landscape_digits_independent" / "sweep.json"
    before = table.read_text()
    arguments = (*arguments, "--mode", "paper")
    run(ROOT / "examples" / "landscape.py", *arguments, cwd=tmp_path)
    again = run(ROOT / "examples" / "landscape.py", *arguments[:4], cwd=tmp_path)
    assert printed.splitlines()[-8:] == again.splitlines()[-8:]
    assert table.read_text() == before
    assert len(list(tmp_path.glob("landscape_digits_figure?.png"))) == 2


@pytest.mark.process
def test_export_savedmodel(tmp_path):
    """Its second process goes on where the first one stopped."""
    example = ROOT / "examples" / "export_savedmodel.py"
    printed = run(example, "--epochs", 6, cwd=tmp_path)
    table = re.findall(r"^ +\d+ +([\d.]+) +([\d.]+) +([\d.]+)", printed, re.MULTILINE)
    accuracy = [float(row[2]) for row in table]
    assert len(accuracy) == 6 and min(accuracy) > 0.9
    assert "Full batch: loss" in printed


@pytest.mark.process
def test_multi_worker(tmp_path):
    """One command, real workers, one table whose rows agree bit for bit."""
    printed = run(ROOT / "examples" / "multi_worker.py", "--epochs", 2, cwd=tmp_path)
    _, *rows = printed.splitlines()[-3:]
    assert [row.split()[0] for row in rows] == ["1", "2"]
    assert all(row.endswith("same bits") for row in rows)


@pytest.mark.process
@needs_mnist
def test_mnist_mlp(tmp_path):
    """Figure 4 in four epochs: the first ratios are of the order of 34 and 18."""
    example = ROOT / "examples" / "mnist_mlp.py"
    arguments = ("--figure", 4, "--scale", 0.01, "--data-dir", TFDS.parent.resolve())
    printed = run(example, *arguments, cwd=tmp_path)
    assert "8/8" in printed and "--figure 4 --scale 1" in printed
    result = json.loads((tmp_path / "mnist_mlp_figure4.json").read_text())
    first, second = result["histories"]["adaptive"]["fdr_ratio"][:2]
    assert 25 < first < 45 and 13 < second < 25
    assert (tmp_path / "mnist_mlp_figure4.png").exists()


@pytest.mark.process
def test_readme_code(tmp_path):
    """The README's first example, as it stands."""
    readme = (ROOT / "README.md").read_text()
    code, *_ = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    assert sum(bool(line) for line in code.splitlines()) == 10
    script = tmp_path / "readme.py"
    script.write_text(code)
    run(script, cwd=tmp_path)


def check_mnist_histories(folder):
    """Both schedules' 400 epochs end within 0.3 points; early ratios as measured
    once by an independent prototype (34, 18, 9, 4.8, 2.8, and 1.04 at epoch 10)."""
    histories = json.loads((folder / "mnist_mlp_figure4.json").read_text())["histories"]
    preset, adaptive = histories["preset"], histories["adaptive"]
    final = [run["val_accuracy"][-1] for run in (preset, adaptive)]
    assert all(len(run["val_accuracy"]) == 400 for run in (preset, adaptive))
    assert abs(final[0] - final[1]) < 0.003
    for history in (preset, adaptive):
        early = history["fdr_ratio"]
        for epoch, ratio in {1: 34, 2: 18, 3: 9, 4: 4.8, 5: 2.8, 10: 1.04}.items():
            assert ratio / 1.3 < early[epoch - 1] < ratio * 1.3
    eta = adaptive["learning_rate"]
    assert eta[0] == pytest.approx(0.1)
    for before, after in pairwise(eta):
        assert after == before or after == pytest.approx(0.9 * before, rel=1e-4)


def test_kept_mnist_results():
    check_mnist_histories(RESULTS)


def test_kept_landscapes():
    """FDR2 and Hessian-vector products agree; one shuffle an epoch hides Tr(HC̃)."""
    for name in ("landscape_digits", "mnist_mlp"):
        file = RESULTS / f"{name}_independent.json"
        results = landscape.SweepResults.load(file)
        found = landscape.fit(results)
        one, other = found.noise_curvature, found.direct_noise_curvature
        assert one.low < other.high and other.low < one.high
        rows = len(results.settings["stages"]) * len(results.settings["seeds"])
        assert len(results.rows) == rows
        assert max(abs(drift.value) for drift in found.drift) < 0.01
    independent, paper = (
        landscape.fit(RESULTS / f"landscape_digits_{mode}.json")
        for mode in ("independent", "paper")
    )
    assert independent.anharmonic_from is None
    assert independent.harmonic_up_to >= 0.02
    assert paper.residual[0].high < -0.9
    # The direct measurement does not depend on how batches are drawn.
    assert paper.direct_noise_curvature.contains(0.43)
    assert independent.direct_noise_curvature.contains(0.43)


@needs_mnist
@pytest.mark.process
@pytest.mark.slow
def test_mnist_results_again(tmp_path):
    example = ROOT / "examples" / "mnist_mlp.py"
    arguments = ("--figure", 4, "--scale", 1, "--data-dir", TFDS.parent.resolve())
    run(example, *arguments, cwd=tmp_path)
    check_mnist_histories(tmp_path)
