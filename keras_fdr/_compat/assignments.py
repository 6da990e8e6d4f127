"""Finds the weights that a layer assigns while it is called."""

import inspect
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from tensorflow.python.framework.auto_control_deps_utils import (
    get_read_write_resource_inputs,
)

from keras_fdr._compat.models import build

_LAYER_FILE = inspect.getsourcefile(keras.layers.Layer)


class Assignment(NamedTuple):
    """An assignment of a layer to one of its weights."""

    weight: keras.Variable
    scope: str
    """The names of the layers around it, outermost first, separated by slashes."""


class AssignmentScan:
    """Looks through a step that is being traced for assignments that layers make.

    All work is done while TensorFlow traces the step, so a compiled step pays nothing.
    Each operation is looked at once, although several steps may be unrolled into one
    graph.
    """

    def __init__(self) -> None:
        self._seen: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    def find(self, weights: Sequence[keras.Variable]) -> Assignment | None:
        """The first `Assignment` to one of the weights, or `None`.

        It looks in the graph that is being traced and in those around it, because the
        update may be in a branch or in a separate function. Where operations run
        eagerly there is no graph, and so nothing is found.

        Args:
            weights: List of `keras.Variable`.
        """
        for graph in _graphs():
            operations = graph.get_operations()[self._seen.get(graph, 0) :]
            found = _first_assignment(graph, operations, weights)
            if found:
                return found
        return None

    def end_step(self) -> None:
        """Has `find` leave out the operations so far, those of the update included."""
        for graph in _graphs():
            self._seen[graph] = len(graph.get_operations())


def _graphs() -> Iterator[tf.Graph]:
    """The graph that is being traced and those around it; nothing in eager mode."""
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while isinstance(graph, tf.__internal__.FuncGraph):
        yield graph
        graph = graph.outer_graph


def assignment_in_call(model: keras.Model, batch_spec: Any) -> Assignment | None:
    """The first `Assignment` that a call of the model makes, or `None`.

    The model is traced, not run. This serves steps that run eagerly. A model that
    cannot be traced gives `None`.

    Args:
        model: A compiled `keras.Model`; it is built if it is not yet.
        batch_spec: `(x, y[, sample_weight])` of `tf.TensorSpec`.
    """
    found: Assignment | None = None

    def call(x: Any) -> None:
        nonlocal found
        model(x, training=True)
        found = AssignmentScan().find(model.trainable_variables)

    try:
        if not model.built:
            build(model, batch_spec)
        tf.function(call, autograph=False).get_concrete_function(batch_spec[0])
    except Exception:  # Python code that only runs eagerly may raise anything.
        return None
    return found


def _first_assignment(
    graph: tf.Graph,
    operations: Sequence[tf.Operation],
    weights: Sequence[keras.Variable],
) -> Assignment | None:
    handles: dict[int, keras.Variable] = {}
    strategy = tf.distribute.get_strategy()
    for weight in weights:
        for copy in strategy.experimental_local_results(weight.value):
            handles[id(copy.handle)] = weight
    weight_of = {
        id(inner): handles[id(outer)]
        for outer, inner in graph.captures
        if id(outer) in handles
    }
    for operation in operations:
        if not any(id(tensor) in weight_of for tensor in operation.inputs):
            continue
        _, written = get_read_write_resource_inputs(operation)
        for tensor in written:
            weight = weight_of.get(id(tensor))
            if weight is not None and _is_by_layer(operation):
                return Assignment(weight, operation.name.rpartition("/")[0])
    return None


def _is_by_layer(operation: tf.Operation) -> bool:
    """Whether a layer made the operation, and not to create its weights."""
    # A weight that is made inside a trace is initialised in a branch, if it is not yet.
    branch = operation.type in ("If", "StatelessIf")
    asking = operation.inputs[0].op if branch else operation
    if asking.type == "VarIsInitializedOp":
        return False
    frames = operation.traceback
    if any(f.filename == _LAYER_FILE and f.name == "__call__" for f in frames):
        return True
    # Several replicas assign at the point where they all meet. One thread does it for
    # all of them. It has no frame of the layer, but the operation has the name scope of
    # the layer.
    met = any(f.name == "_call_for_each_replica" for f in frames)
    return met and "/" in operation.name
