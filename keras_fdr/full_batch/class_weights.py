"""The `class_weight` of `fit`, for batches that do not come from `fit`."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf


def weighted_by_class(
    batches: tf.data.Dataset, class_weight: Mapping[Any, Any]
) -> tf.data.Dataset:
    """Batches `(x, y, sample_weight)` with the weights that `fit` derives from labels.

    The rules are those of Keras. If a label has several entries, its class is the
    position of the largest. Otherwise its class is its rounded value. A class that
    `class_weight` does not name has the weight 1.

    Args:
        batches: `tf.data.Dataset` of `(x, y)`.
        class_weight: Dictionary from class to weight.

    Returns:
        A `tf.data.Dataset`.

    Raises:
        ValueError: If the labels are not one class per example.
    """
    labels = batches.element_spec[1]
    if tf.nest.is_nested(labels) or labels.shape.rank not in (1, 2):
        raise ValueError(
            "`class_weight` needs labels of one class per example, of shape (batch,) "
            "or (batch, classes). Pass a `sample_weight` with the data instead. "
            f"Received: labels {labels}"
        )
    dtype = keras.config.floatx()
    keys = tf.constant([int(key) for key in class_weight], tf.int64)
    values = tf.constant([float(value) for value in class_weight.values()], dtype)

    def add_weights(x: Any, y: Any) -> tuple[Any, Any, Any]:
        named = _classes(y)[:, None] == keys[None]
        weights = tf.reduce_sum(tf.where(named, values[None], 0), axis=1)
        return x, y, tf.where(tf.reduce_any(named, axis=1), weights, 1)

    return batches.map(add_weights)


def _classes(labels: Any) -> Any:
    """The class of each label, as integers."""
    if labels.shape.rank == 2 and labels.shape[-1] != 1:
        return tf.argmax(labels, axis=-1)
    if labels.shape.rank == 2:
        labels = tf.squeeze(labels, axis=-1)
    if labels.dtype.is_floating:
        labels = tf.round(labels)
    return tf.cast(labels, tf.int64)
