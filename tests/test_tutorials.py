"""The tutorials run as scripts, and the notebooks on the site are made from them."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "keras_io"
NOTEBOOKS = ROOT / "docs" / "tutorials"
NAMES = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem != "to_notebooks")
TFDS = Path(os.environ.get("TFDS_DATA_DIR", "")) / "mnist"
FIELDS = [
    "Title",
    "Author",
    "Date created",
    "Last modified",
    "Description",
    "Accelerator",
]


def outline(source):
    """The prose of a tutorial, and how many calls its code has."""
    prose = []
    for statement in ast.parse(source).body[1:]:
        if isinstance(statement, ast.Expr) and isinstance(
            statement.value, ast.Constant
        ):
            prose.append(statement.value.value.strip())
    calls = ast.dump(ast.parse(source)).count("Call(")
    return prose, calls


@pytest.mark.parametrize("name", NAMES)
def test_form(name):
    """Each begins with the fields of keras.io, and uses only public names."""
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) < 300
    tree = ast.parse(source)
    lines = ast.get_docstring(tree).splitlines()
    assert [line.split(":")[0] for line in lines] == FIELDS
    import keras_fdr

    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and "keras_fdr" in node.module:
            assert node.module == "keras_fdr"
            assert {alias.name for alias in node.names} <= set(keras_fdr.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_made_from_the_tutorial(name):
    """If this fails, run `python examples/keras_io/to_notebooks.py`."""
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    file = NOTEBOOKS / f"{name}.ipynb"
    assert file.stat().st_size < 300_000
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    texts = {"markdown": [], "code": []}
    for cell in cells:
        texts[cell["cell_type"]].append("".join(cell["source"]))
    prose, calls = outline(source)
    assert texts["markdown"][1:] == prose
    code = "\n".join(texts["code"])
    assert ast.dump(ast.parse(code)).count("Call(") == calls
    assert all(line in source for line in code.splitlines())
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["execution_count"]
            assert not any(o["output_type"] == "error" for o in cell["outputs"])


def numbers(printed, pattern):
    return [float(x) for x in re.findall(pattern, printed, flags=re.MULTILINE)]


def check_adamw_still_learning(printed):
    assert "Optimizer: AdamW" in printed
    rows = re.findall(r"^ +\d+ +([\d.]+) +([\d.]+) +(-?[\d.]+)$", printed, re.MULTILINE)
    assert len(rows) == 18
    ratios = [float(row[2]) for row in rows]
    assert max(ratios[:6]) < 0
    assert 0.9 < ratios[11] < 1.1 and ratios[17] < 0.8
    constant, cosine = numbers(printed, r"final loss ([\d.]+)")
    assert cosine < constant


def check_learning_rate_without_validation(printed):
    (cuts,) = numbers(printed, r"^Number of cuts: (\d+)")
    assert cuts >= 3 and printed.count("so the learning rate was cut") == cuts
    constant, with_cuts = numbers(printed, r"test accuracy ([\d.]+)$")
    assert with_cuts > constant + 0.01


def check_many_workers(printed):
    assert "Same learning rates in all epochs: True" in printed
    assert "Weights agree to 0.01: True" in printed
    (cuts,) = re.findall(r"^Cuts: (\d+) and (\d+)", printed, re.MULTILINE)
    assert cuts[0] == cuts[1] != "0"


def check_read_the_landscape(printed):
    assert "Intervals overlap: True" in printed
    (by_gradients,) = numbers(printed, r"^From gradients: ([\d.]+)")
    assert 0.35 < by_gradients < 0.55


def check_train_on_from_a_savedmodel(printed):
    assert printed.count("  cut\n") >= 2
    (accuracy,) = numbers(printed, r"^Accuracy on the training images: ([\d.]+)")
    assert accuracy > 0.95


@pytest.mark.process
@pytest.mark.parametrize("name", NAMES)
def test_tutorial(name, tmp_path):
    """It runs as a script, and prints what its prose says."""
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    has_mnist = "TFDS_DATA_DIR" in os.environ and TFDS.exists()
    if "tensorflow_datasets" in source and not has_mnist:
        pytest.skip("needs TFDS_DATA_DIR with a prepared MNIST")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py"],
        cwd=tmp_path,
        env=environment,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert "UserWarning" not in done.stderr
    globals()[f"check_{name}"](done.stdout)


def test_cells():
    """Prose and code come apart at strings that stand on their own."""
    pytest.importorskip("nbformat")
    path = FOLDER / "to_notebooks.py"
    spec = importlib.util.spec_from_file_location("to_notebooks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    source = (
        '"""\nTitle: T\nDescription: D\n"""\n\n"""\nProse\n"""\n\n'
        'x = """\nno prose\n"""\n\n\ndef f():\n    """Neither."""\n\n\n"""\nEnd\n"""\n'
    )
    assert module.cells(source) == [
        ("markdown", "# T\n\n*D*"),
        ("markdown", "Prose"),
        ("code", 'x = """\nno prose\n"""\n\n\ndef f():\n    """Neither."""'),
        ("markdown", "End"),
    ]
