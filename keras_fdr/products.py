"""Scalar products and checksums of lists of tensors."""

import tensorflow as tf


def float64(x):
    """A number or tensor as a float64 tensor."""
    # `tf.cast` would take a Python number through float32.
    return tf.cast(x, "float64") if tf.is_tensor(x) else tf.constant(x, "float64")


def dots(a, b):
    """Σ_i a_i·b_i of each pair of tensors in two lists, as a float64 vector."""
    parts = [
        2 * tf.nn.l2_loss(x) if x is y else tf.reduce_sum(x * y)
        for x, y in zip(a, b, strict=True)
    ]
    return tf.cast(tf.stack(parts), "float64")


def dot(a, b):
    """Σ_i a_i·b_i over two lists of tensors, as a float64 scalar."""
    return tf.reduce_sum(dots(a, b))


@tf.function
def checksum(theta):
    """An int64 scalar that changes with any bit of a list of tensors."""
    # Of integers, so that the order in which they are added does not matter.
    total = tf.zeros((), "int64")
    for i, weight in enumerate(theta):
        integer = tf.int64 if weight.dtype == tf.float64 else tf.int32
        bits = tf.cast(tf.bitcast(weight, integer), "int64")
        total += (2 * i + 1) * tf.reduce_sum(bits)
    return total
