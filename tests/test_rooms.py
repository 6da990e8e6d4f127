"""Which room may import which, and which paths users import from."""

import ast
import importlib
import inspect
import textwrap
from pathlib import Path

import keras
import pytest

import keras_fdr
from keras_fdr import FDRSGD, FDRCallback, FDRObservables

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
    "state_layer",
    "model_checks",
    "record",
    "data",
    "batches",
    "products",
    "sparse_rows",
    "rules",
    "observables",
    "distribution",
    "optimizer",
    "attach",
    "measured",
    "measure",
    "full_batch",
    "restart",
    "callback",
    "export",
    "landscape",
    "plots",
    "report",
    "tensorboard",
)


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
        "keras_fdr.landscape.Landscape",
        "keras_fdr.landscape.compiled_loop.CompiledLoop",
        "keras_fdr.landscape.fit",
        "keras_fdr.landscape.noise_curvature",
        # Pickles of sweeps name these two.
        "keras_fdr.landscape.results.SweepResults",
        "keras_fdr.landscape.rows.SweepRow",
        "keras_fdr.landscape.sweep",
        "keras_fdr.observables.FDRObservables",
        "keras_fdr.optimizer.FDRSGD",
        "keras_fdr.plots.equilibration",
        "keras_fdr.record.Record",
        "keras_fdr.report.fdr_report",
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


def private_names(text):
    """The names `self._x` and of methods `_x` in the source of a class."""
    names = set()
    for node in ast.walk(ast.parse(textwrap.dedent(text))):
        if isinstance(node, ast.Attribute):
            owner = node.value
            if isinstance(owner, ast.Name) and owner.id in ("self", "cls"):
                names.add(node.attr)
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
    return {n for n in names if n.startswith("_") and not n.endswith("__")}


def touched(found):
    """The private names of Keras that a class uses or defines, outside of `_compat`."""
    theirs, ours = set(), set()
    for base in found.__mro__:
        if base.__module__.startswith("keras."):
            # The second finds what methods give to their objects.
            theirs |= set(dir(base)) | private_names(inspect.getsource(base))
        elif base.__module__ == found.__module__ or (
            base.__module__.startswith("keras_fdr.")
            and "._compat" not in base.__module__
        ):
            ours |= private_names(inspect.getsource(base))
    return ours & theirs


def own_classes():
    """The classes of the package outside of `_compat`."""
    for path in HOME.rglob("*.py"):
        name = ".".join(path.relative_to(HOME.parent).with_suffix("").parts)
        module = importlib.import_module(name.removesuffix(".__init__"))
        for found in vars(module).values():
            own = inspect.isclass(found) and found.__module__ == module.__name__
            if own and "._compat" not in found.__module__:
                yield found


def test_no_class_touches_what_its_base_in_keras_keeps_private():
    found = list(own_classes())
    assert {FDRSGD, FDRObservables, FDRCallback} <= set(found)
    assert {one.__name__: touched(one) for one in found if touched(one)} == {}


class Prying(keras.optimizers.SGD):
    def update_step(self, gradient, variable, learning_rate):
        return self._trainable_variables

    def _clip_gradients(self, grads):
        return self._own


def test_private_names_are_found():
    """Otherwise the test above would pass without looking."""
    assert touched(Prying) == {"_trainable_variables", "_clip_gradients"}
