"""Which room may import which, and which paths users import from."""

import ast
import importlib
from pathlib import Path

import pytest

import keras_fdr

HOME = Path(keras_fdr.__path__[0])

# A room may import from those listed before it, and from itself.
ORDER = (
    "_version",
    "requirements",
    "arguments",
    "files",
    "notices",
    "_compat",
    "snapshot",
    "saving",
    "record",
    "data",
    "batches",
    "products",
    "rules",
    "observables",
    "distribution",
    "optimizer",
    "measure",
    "full_batch",
    "restart",
    "callback",
    "export",
    "landscape",
    "plots",
)

# One exception: the pass and the shares of replicas need each other's room.
ALLOWED = {("distribution", "full_batch")}


def imports():
    """Pairs of rooms, the importing one and the imported one, with the file."""
    for path in HOME.rglob("*.py"):
        room = path.relative_to(HOME).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            names = [node.module]
            if node.module == "keras_fdr":
                names = [f"keras_fdr.{alias.name}" for alias in node.names]
            for name in names:
                parts = name.split(".")
                if parts[0] == "keras_fdr" and len(parts) > 1:
                    yield room, parts[1], str(path.relative_to(HOME))


def test_nothing_imports_upward():
    upward = [
        f"{file} imports from {imported}"
        for room, imported, file in imports()
        if room not in ("__init__", imported)
        and (room, imported) not in ALLOWED
        and ORDER.index(imported) > ORDER.index(room)
    ]
    assert upward == []


@pytest.mark.parametrize(
    "path",
    [
        "keras_fdr.batches.shuffled_batches",
        "keras_fdr.callback.FDRCallback",
        "keras_fdr.distribution.prepare_distributed",
        "keras_fdr.export.export_trainer",
        "keras_fdr.full_batch.FullBatch",
        "keras_fdr.full_batch.FullBatchPass",
        "keras_fdr.landscape.noise_curvature",
        "keras_fdr.landscape.sweep",
        "keras_fdr.observables.FDRObservables",
        "keras_fdr.optimizer.FDRSGD",
        "keras_fdr.plots.equilibration",
        "keras_fdr.record.Record",
        "keras_fdr.rules.DriftRule",
    ],
)
def test_public_paths_import(path):
    module, name = path.rsplit(".", 1)
    assert callable(getattr(importlib.import_module(module), name))


def test_every_public_name_is_there():
    for name in keras_fdr.__all__:
        assert hasattr(keras_fdr, name)


def test_private_names_of_tensorflow_stay_in_compat():
    for path in HOME.rglob("*.py"):
        if path.parent.name != "_compat":
            text = path.read_text()
            for private in ("__internal__", "keras.src", "tensorflow.python"):
                assert private not in text, f"{path.name}: {private}"
