"""The `class_weight` of `fit`, for batches that do not come from `fit`."""

import keras
import tensorflow as tf


def weighted_by_class(batches, class_weight):
    """Batches `(x, y, sample_weight)` with the weights that `fit` derives from labels.

    As in Keras, the class of a label is its rounded value, or the position of its
    largest entry where it has several, and classes that are not named have the
    weight 1.

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

    def add_weights(x, y):
        named = _classes(y)[:, None] == keys[None]
        weights = tf.reduce_sum(tf.where(named, values[None], 0), axis=1)
        return x, y, tf.where(tf.reduce_any(named, axis=1), weights, 1)

    return batches.map(add_weights)


def _classes(labels):
    if labels.shape.rank == 2 and labels.shape[-1] != 1:
        return tf.argmax(labels, axis=-1)
    if labels.shape.rank == 2:
        labels = tf.squeeze(labels, axis=-1)
    if labels.dtype.is_floating:
        labels = tf.round(labels)
    return tf.cast(labels, tf.int64)
