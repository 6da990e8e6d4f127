"""The shapes and dtypes of a batch, from what a compiled model says of itself."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

# `(x, y)` or `(x, y, sample_weight)` of (nested) `tf.TensorSpec`.
Signature = tuple[Any, ...]

_WHAT_TO_PASS = (
    "`batch_signature` must be `(x, y)` or `(x, y, sample_weight)` of `tf.TensorSpec` "
    "in the structure that the model takes, such as the `element_spec` of a dataset "
    "or `(tf.TensorSpec([None, 784]), tf.TensorSpec([None], tf.int64))`."
)

# Losses that compare a prediction with a label of the same shape.
_LABELS_LIKE_OUTPUTS = (
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_hinge",
    "cosine_similarity",
    "dice",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
    "squared_hinge",
    "tversky",
)


def check_signature(signature: Any) -> Signature:
    """A batch signature as a tuple.

    Raises:
        TypeError: If it is no tuple of 2 or 3 structures of `tf.TensorSpec`.
    """
    parts = isinstance(signature, (tuple, list)) and len(signature) in (2, 3)
    if not parts or not all(
        isinstance(spec, tf.TensorSpec) for spec in tf.nest.flatten(signature)
    ):
        raise TypeError(f"{_WHAT_TO_PASS} Received: {signature}")
    return tuple(signature)


def default_signature(model: keras.Model) -> Signature:
    """`(x, y)` of `tf.TensorSpec` with any number of examples.

    Inputs are those of the model. Labels have the shape and dtype of the outputs, or,
    for sparse categorical cross-entropy, are int64 without the last axis.

    Args:
        model: A compiled `keras.Model`.

    Raises:
        ValueError: If the inputs or a loss's labels are not known.
    """
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"{_WHAT_TO_PASS} The inputs of a subclassed or unbuilt model are not "
            f"known. Received: batch_signature=None, model={model.name!r}"
        )
    # A `Sequential` has one input; `input` is the structure that a functional model
    # was made of.
    functional = not isinstance(model, keras.Sequential)
    x = model.input if functional else model.inputs[0]
    outputs = model.output if functional else model.outputs[0]
    losses = model.loss
    y: Any
    if isinstance(losses, dict):
        if not isinstance(outputs, dict):
            outputs = dict(zip(model.output_names, model.outputs, strict=True))
        y = {name: _label(loss, outputs.get(name)) for name, loss in losses.items()}
    elif isinstance(losses, (list, tuple)):
        y = [_label(*pair) for pair in zip(losses, model.outputs, strict=True)]
    else:
        y = _map(lambda output: _label(losses, output), outputs)
    return _map(_any_batch, x), y


def _map(function: Callable[[Any], Any], structure: Any) -> Any:
    # Keras wraps what a model holds; a signature is plain lists and dictionaries.
    if isinstance(structure, dict):
        return {name: _map(function, part) for name, part in structure.items()}
    if isinstance(structure, (list, tuple)):
        return [_map(function, part) for part in structure]
    return function(structure)


def _any_batch(tensor: Any) -> tf.TensorSpec:
    return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)


def _label(loss: Any, output: Any) -> tf.TensorSpec:
    found = keras.losses.get(loss) if loss is not None else None
    function = getattr(found, "fn", found)
    shape = None if output is None else [None, *output.shape[1:]]
    if shape and function is keras.losses.sparse_categorical_crossentropy:
        return tf.TensorSpec(shape[:-1], tf.int64)
    known = [getattr(keras.losses, name) for name in _LABELS_LIKE_OUTPUTS]
    if shape and function in known:
        return tf.TensorSpec(shape, keras.config.floatx())
    raise ValueError(
        f"{_WHAT_TO_PASS} The labels that this loss takes are not known. "
        f"Received: batch_signature=None, loss={loss}"
    )
