"""What a model must be, each check with its one message."""

from typing import Any

import keras
import tensorflow as tf

from keras_fdr import _compat
from keras_fdr._compat import Assignment


def check_model(model: Any) -> None:
    """Refuses what is not a model.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`model` must be a `keras.Model`. Received: {type(model).__name__}"
        )


def check_compiled(model: keras.Model, loss: bool = False) -> None:
    """Refuses a model that was not compiled.

    Args:
        model: A `keras.Model`.
        loss: Boolean, whether `compile` must have got a loss. Defaults to `False`.

    Raises:
        ValueError: If the model has no optimizer, or if it has no loss and needs one.
    """
    # A `Sequential` has no such attributes before `compile`.
    known = getattr(model, "optimizer", None) is not None
    if not known or (loss and not getattr(model, "loss", None)):
        needs = "an optimizer and a loss" if loss else "an optimizer"
        raise ValueError(
            f"The model must be compiled with {needs}: call `model.compile(...)` "
            f"first. Received: model={model.name!r}"
        )


def check_own_loss(model: keras.Model) -> None:
    """Refuses a model that computes its loss itself.

    Raises:
        ValueError: If it overrides `train_step` or `compute_loss`.
    """
    for method in ("train_step", "compute_loss"):
        if getattr(type(model), method) is not getattr(keras.Model, method):
            raise ValueError(
                "The model must leave its loss to `compile`: what an overridden "
                f"`{method}` minimises is not known to be a mean over examples. "
                f"Received: {type(model).__name__}.{method}"
            )


def check_structure(
    model: keras.Model, batch_spec: Any, argument: str = "dataset"
) -> None:
    """Refuses batches that the model cannot be called with.

    Args:
        model: A `keras.Model`.
        batch_spec: `(x, y[, sample_weight])` of `tf.TensorSpec`.
        argument: String, which argument the batches came with, for the message.
            Defaults to `"dataset"`.

    Raises:
        ValueError: If the model has another number of inputs or outputs.
    """
    x, y = batch_spec[0], batch_spec[1]
    if not getattr(model, "inputs", None):
        return  # A subclassed model: only its call knows.
    losses = [loss for loss in tf.nest.flatten(model.loss) if loss is not None]
    nested = tf.nest.is_nested(model.loss)
    outputs = len(model.outputs)
    for name, parts, allowed in (
        ("inputs", x, {len(model.inputs)}),
        ("labels", y, {outputs, len(losses)} if nested else {outputs}),
    ):
        count = len(tf.nest.flatten(parts))
        if count not in allowed:
            raise ValueError(
                f"`{argument}` must have the {name} of the model: "
                f"{' or '.join(map(str, sorted(allowed)))} arrays. "
                f"Received: {count} arrays, {parts}"
            )


def refuse_assignment(found: Assignment | None) -> None:
    """Refuses a weight that a layer assigns while it is called.

    Args:
        found: An `Assignment`, or `None`.

    Raises:
        ValueError: If there is an assignment.
    """
    if found is not None:
        raise ValueError(
            "Trainable weights must be changed by the optimizer alone. FDR1 does not "
            "hold for a weight that a layer assigns while it is called, as "
            "`SpectralNormalization` does. Remove the layer, or set `trainable=False` "
            "for the weight before `compile`. Received: the layer "
            f"{found.scope!r}, which assigns {found.weight.path!r}"
        )


def check_eager_layers(model: keras.Model, batch_spec: Any) -> None:
    """Refuses layers that assign their weights, before a step that runs eagerly.

    A step that is compiled is checked by the optimizer while it is traced.

    Args:
        model: A compiled `keras.Model`.
        batch_spec: `(x, y[, sample_weight])` of `tf.TensorSpec`, or `None` where
            unknown.

    Raises:
        ValueError: If a layer assigns a trainable weight while it is called.
    """
    if model.run_eagerly and isinstance(batch_spec, tuple):
        refuse_assignment(_compat.assignment_in_call(model, batch_spec))
