"""Every docstring's example runs and shows what it says."""

import doctest
import importlib
import pkgutil

import pytest

import keras_fdr

MODULES = [f"keras_fdr.{m.name}" for m in pkgutil.iter_modules(keras_fdr.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_every_public_class_has_an_example():
    for name in ("FDRSGD", "FDRCallback", "FDRObservables", "Record", "ThresholdRule"):
        assert ">>>" in getattr(keras_fdr, name).__doc__


def test_statistics_know_nothing_of_keras():
    """record and stationarity import neither Keras nor TensorFlow."""
    for name in ("record", "stationarity", "plots"):
        module = importlib.import_module(f"keras_fdr.{name}")
        assert not {"keras", "tf", "tensorflow"} & set(vars(module))


def test_private_names_stay_in_compat():
    """No other module touches an underscored attribute of someone else's object."""
    import ast
    from pathlib import Path

    for path in Path(keras_fdr.__path__[0]).glob("*.py"):
        if path.name == "_compat.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                owner = node.value
                own = isinstance(owner, ast.Name) and owner.id in ("self", "cls")
                assert own or node.attr.startswith("__"), f"{path.name}: {node.attr}"
