"""Splits the losses of a compiled model into sums and counts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras.src.backend import get_keras_mask, set_keras_mask


class UnfitLossError(ValueError):
    """A loss is not a mean over examples. The message names it."""


class LossPart(NamedTuple):
    """One loss of a compiled model over one batch, before division."""

    name: str
    weight: float
    numerator: tf.Tensor
    denominator: tf.Tensor
    per_example: int | None
    """The denominator divided by the number of examples, if that is constant."""


@contextmanager
def parts_of_losses(model: keras.Model) -> Iterator[list[LossPart]]:
    """Collects the parts of every loss of a compiled model while it is computed.

    Keras returns only means, and divides by other counts if there are masks. Its
    container of losses matches labels with outputs, so the parts are taken inside it.

    Yields:
        A list. Each call of the losses adds `LossPart`s to it.

    Raises:
        ValueError: If a loss is not a mean over examples.
    """
    container = model._compile_loss
    originals = container._flat_losses
    parts: list[LossPart] = []
    try:
        container._flat_losses = [
            original._replace(loss=_SplitLoss(original, parts))
            for original in originals
        ]
        yield parts
    finally:
        container._flat_losses = originals


def loss_parts(
    model: keras.Model, y: Any, y_pred: Any, sample_weight: Any
) -> list[LossPart]:
    """The `LossPart` of every loss over one batch (see `parts_of_losses`)."""
    with parts_of_losses(model) as parts:
        model._compile_loss(y, y_pred, sample_weight)
    return parts


class _SplitLoss:
    """Replaces one loss, and splits its mean into a sum and a count."""

    def __init__(self, original: Any, parts: list[LossPart]) -> None:
        loss = original.loss
        reduction = getattr(loss, "reduction", None)
        if type(loss).__call__ is not keras.losses.Loss.__call__:
            raise UnfitLossError(
                "Each loss must leave its mean over the examples to Keras: write "
                "`call`, with one value per example, instead of `__call__`. Received: "
                f"loss {original.name!r} of {type(loss).__name__}, which overrides "
                "`__call__`"
            )
        if reduction not in ("sum_over_batch_size", "mean", "mean_with_sample_weight"):
            raise UnfitLossError(
                "Each loss must be a mean over the examples: a `keras.losses.Loss` "
                'with `reduction="sum_over_batch_size"` or '
                '`"mean_with_sample_weight"`, or a function with one value per '
                f"example. Received: loss {original.name!r} of {type(loss).__name__} "
                f"with reduction={reduction!r}"
            )
        self._original = original
        self._parts = parts

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        if any(tf.as_dtype(y.dtype) == tf.string for y in tf.nest.flatten(y_true)):
            raise UnfitLossError(
                "The labels of `dataset` must be numbers: encode text as integers, for "
                "instance with `keras.layers.StringLookup`. Received: labels of dtype "
                f"string for loss {self._original.name!r}"
            )
        loss, weight = self._original.loss, self._original.loss_weights
        total = _RereducedLoss(loss, "sum")
        numerator = total(y_true, y_pred, sample_weight)
        weights = sample_weight
        if loss.reduction != "mean_with_sample_weight":
            weights = None
        # For a loss that is 1 everywhere, the sum divided by the mean is the count by
        # which Keras divides, also with masks.
        count = _RereducedLoss(loss, "sum", ones=True)(y_true, y_pred, weights)
        mean = _RereducedLoss(loss, loss.reduction, ones=True)(y_true, y_pred, weights)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        per_example = None
        if weights is None and not total.masked and total.inner.is_fully_defined():
            per_example = total.inner.num_elements()
        part = LossPart(
            name=self._original.name,
            weight=1.0 if weight is None else weight,
            numerator=numerator,
            denominator=tf.math.divide_no_nan(count, mean * replicas),
            per_example=per_example,
        )
        self._parts.append(part)
        return loss(y_true, y_pred, sample_weight)


class _RereducedLoss(keras.losses.Loss):
    """A loss with another reduction, or with 1 instead of its values."""

    def __init__(
        self, loss: keras.losses.Loss, reduction: str, ones: bool = False
    ) -> None:
        super().__init__(name="shadow", reduction=reduction, dtype=loss.dtype)
        self._loss = loss
        self._ones = ones
        self.masked = False

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        self.masked |= get_keras_mask(y_pred) is not None
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        values = self._loss.call(y_true, y_pred)
        if values.shape.rank == 0:
            raise UnfitLossError(
                "Each loss must have one value per example, which makes it a mean "
                f"over the examples. Received: loss {self._loss.name!r} with a scalar"
            )
        self.inner = values.shape[1:]
        mask = get_keras_mask(values)
        if self._ones:
            values = tf.ones_like(values)
        if mask is not None:
            self.masked = True
            set_keras_mask(values, mask)
        return values


def activity_losses(model: keras.Model) -> list[tf.Tensor]:
    """The losses of activity regularisers in the last call of a model.

    Keras divides each by the number of examples of the batch, so they are means.

    Raises:
        ValueError: If a layer called `add_loss`, because this may not be a mean.
    """
    losses = []
    for layer in model._flatten_layers():
        own = layer._get_own_losses()
        if own and layer.activity_regularizer is None:
            raise UnfitLossError(
                "Each loss must be a mean over the examples. A loss from `add_loss` "
                "may not be one. Use an `activity_regularizer`, which is. "
                f"Received: a loss added by layer {layer.name!r}"
            )
        losses.extend(own)
    return losses
