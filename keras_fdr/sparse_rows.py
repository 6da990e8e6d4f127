"""Steps that move only some rows of a weight, such as the words of an embedding."""

from typing import Any

import tensorflow as tf

from keras_fdr import _compat


def can_gather() -> bool:
    """Whether the step that is being traced can read and move single rows.

    XLA has no operation for unique rows. Replicas have different rows each. A step that
    runs eagerly would be traced again for every number of rows.
    """
    return not (
        tf.executing_eagerly()
        or _compat.xla_compiles()
        or tf.distribute.get_strategy().num_replicas_in_sync > 1
    )


def rows_of(gradient: Any) -> tf.Tensor | None:
    """The rows that a gradient touches, as it lists them. `None` stands for all."""
    return gradient.indices if isinstance(gradient, tf.IndexedSlices) else None


def touched_rows(gradient: Any) -> tf.Tensor | None:
    """The rows that a gradient touches, each once. `None` stands for all rows."""
    rows = rows_of(gradient)
    return None if rows is None else tf.unique(rows).y


def with_unique_rows(gradient: Any) -> Any:
    """The same gradient, in which the slices of each row are added up.

    Args:
        gradient: A `tf.IndexedSlices`. A tensor or `None` is returned as it is.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, positions = tf.unique(gradient.indices)
    sums = tf.math.unsorted_segment_sum(gradient.values, positions, tf.size(rows))
    return tf.IndexedSlices(sums, rows, gradient.dense_shape)


def values_of(gradient: Any) -> Any:
    """The tensor of a gradient: all of it, or the rows that it touches."""
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def read_rows(weight: Any, rows: tf.Tensor | None) -> tf.Tensor:
    """Reads the given rows of a weight, or all of it.

    Args:
        weight: A `tf.Variable` or a tensor.
        rows: Integer vector, or `None` for all rows.
    """
    return tf.convert_to_tensor(weight) if rows is None else tf.gather(weight, rows)
