"""Every docstring's example runs and shows what it says."""

import doctest
import importlib
import pkgutil

import pytest

import keras_fdr

MODULES = [m.name for m in pkgutil.walk_packages(keras_fdr.__path__, "keras_fdr.")]
NUMPY_ONLY = (
    "keras_fdr.record.checks",
    "keras_fdr.record.columns",
    "keras_fdr.record.npz",
    "keras_fdr.record.record",
    "keras_fdr.rules.by_variable",
    "keras_fdr.rules.confidence",
    "keras_fdr.rules.config",
    "keras_fdr.rules.drift",
    "keras_fdr.rules.q_path",
    "keras_fdr.rules.threshold",
    "keras_fdr.rules.verdict",
    "keras_fdr.landscape.estimates",
    "keras_fdr.landscape.judgement",
    "keras_fdr.landscape.regression",
    "keras_fdr.landscape.results",
    "keras_fdr.landscape.rows",
    "keras_fdr.landscape.table_file",
    "keras_fdr.plots.figures",
    "keras_fdr.plots.layers",
    "keras_fdr.plots.sources",
    "keras_fdr.plots.sweeps",
    "keras_fdr.plots.ticks",
    "keras_fdr.plots.training",
    "keras_fdr.report.words",
)


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_everything_that_does_something_has_an_example():
    results = {"Cut", "Estimate", "Landscape"}
    for owner in (keras_fdr, keras_fdr.landscape, keras_fdr.plots):
        for name in set(owner.__all__) - results:
            public = getattr(owner, name)
            assert not callable(public) or ">>>" in public.__doc__, name


@pytest.mark.parametrize("name", NUMPY_ONLY)
def test_statistics_know_nothing_of_keras(name):
    module = importlib.import_module(name)
    assert not {"keras", "tf", "tensorflow"} & set(vars(module))


def test_private_names_stay_in_compat():
    """No other module touches an underscored attribute of someone else's object."""
    import ast
    from pathlib import Path

    for path in Path(keras_fdr.__path__[0]).rglob("*.py"):
        if path.parent.name == "_compat":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                owner = node.value
                own = isinstance(owner, ast.Name) and owner.id in ("self", "cls")
                assert own or node.attr.startswith("__"), f"{path.name}: {node.attr}"
