"""Scalar products and checksums of lists of tensors."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_fdr import _compat

# Below this many elements oneDNN's call costs more than it saves, and a product of two
# tensors takes less than the operations that ask for it.
_SMALL = 2**14
# Where TensorFlow shares the work of `l2_loss` between threads although that costs more
# than it saves.
_SQUARES_BY_HALVES = range(2**16, 2**18 + 1)
# Rows of matrices are summed one number after the other: 6e-5 of Σ x² are lost for 2^23
# numbers. Hence pieces, not so many that tracing takes long.
_PIECES = 16
# Fewer tensors are not worth the operations that stack them.
_MANY = 4
# The golden ratio and a prime of xxHash, as signed 64-bit integers.
_ODD_FOR_POSITIONS = -7046029254386353131
_ODD_FOR_BITS = -4417276706812531889
_HALF = np.int64(32)


def float64(x: Any) -> tf.Tensor:
    """A number or tensor as a float64 tensor."""
    # `tf.cast` would take a Python number through float32.
    return tf.cast(x, "float64") if tf.is_tensor(x) else tf.constant(x, "float64")


def dots(a: Sequence[Any], b: Sequence[Any]) -> tf.Tensor:
    """Σ_i a_i·b_i of each pair of tensors in two lists, as a float64 vector."""
    kernels, pairs = _compat.cpu_kernels(), list(zip(a, b, strict=True))
    groups = [members for members in _alike(a) if len(members) >= _MANY]
    grouped = {i for members in groups for i in members}
    alone = [i for i in range(len(pairs)) if i not in grouped]
    parts = [_dots_of_alike([pairs[i] for i in members], kernels) for members in groups]
    if alone:
        parts.append(stacked([_dot(*pairs[i], kernels) for i in alone]))
    parts = [*_of_one_type(parts)]
    if len(parts) == 1:
        return tf.cast(parts[0], "float64")
    order = [i for members in (*groups, alone) for i in members]
    return tf.cast(tf.gather(tf.concat(parts, 0), np.argsort(order)), "float64")


def stacked(scalars: Sequence[Any]) -> tf.Tensor:
    """Scalars as one vector, which is float64 where their types differ."""
    return tf.stack(_of_one_type(scalars))


def _of_one_type(tensors: Sequence[Any]) -> Sequence[Any]:
    # One cast of the result costs less than one of each tensor.
    if len({tensor.dtype for tensor in tensors}) == 1:
        return tensors
    return [tf.cast(tensor, "float64") for tensor in tensors]


def _alike(tensors: Sequence[Any]) -> Collection[list[int]]:
    """The positions of small tensors of the same shape together, of others alone."""
    groups: dict = {}
    for i, tensor in enumerate(tensors):
        size = tensor.shape.num_elements()
        small = size is not None and 0 < size < _SMALL
        key = (tensor.dtype, tuple(tensor.shape)) if small else i
        groups.setdefault(key, []).append(i)
    return groups.values()


def _dots_of_alike(pairs: list[tuple[Any, Any]], kernels: str | None) -> tf.Tensor:
    """The products of many small tensors of one shape in a few operations."""
    x, y = (tf.stack(tensors) for tensors in zip(*pairs, strict=True))
    products = tf.reshape(x * y, (len(pairs), -1))
    if kernels == "xla":
        ones = tf.ones((products.shape[1], 1), products.dtype)
        return tf.matmul(products, ones)[:, 0]
    return tf.reduce_sum(products, axis=1)


def _dot(x: Any, y: Any, kernels: str | None) -> tf.Tensor:
    """x·y by what is fastest: docs/performance.md has the times.

    On accelerators never a product of matrices, whose inputs those may round.
    """
    # Unknown while tracing, for instance of a kernel on sequences: 0.
    size = x.shape.num_elements() or 0
    if kernels == "xla" and size and x.shape.rank > 1:
        # For CPUs, XLA compiles sums element by element, but these to vector code.
        products = tf.reshape(x * y, (-1, x.shape[-1]))
        ones = tf.ones((x.shape[-1], 1), x.dtype)
        return tf.reduce_sum(tf.matmul(products, ones))
    by_halves = size in _SQUARES_BY_HALVES if x is y else size >= _SMALL
    if kernels == "onednn" and by_halves:
        return _by_halves(x, y, size)
    if x is y:
        return 2 * tf.nn.l2_loss(x)
    return tf.reduce_sum(x * y)


def _by_halves(x: Any, y: Any, size: int) -> tf.Tensor:
    """x·y as products of matrices of two rows."""
    x, y = (tf.reshape(t, [-1]) for t in (x, y))
    count = min(_PIECES, max(1, size // 2**18))
    # Of a multiple of 64 bytes: such pieces are not copied.
    length = size // count // 16 * 16
    parts = []
    for start in range(0, count * length, length):
        whole = length == size
        pieces = [t if whole else t[start : start + length] for t in (x, y)]
        halves = [tf.reshape(t, (2, -1)) for t in pieces]
        # The diagonal holds the two halves of x·y. Half the work is for nothing, but
        # no array of products goes through memory.
        parts.append(tf.linalg.trace(tf.matmul(*halves, transpose_b=True)))
    if rest := size - count * length:
        parts.append(tf.reduce_sum(x[-rest:] * y[-rest:]))
    return tf.add_n(parts) if len(parts) > 1 else parts[0]


def dot(a: Sequence[Any], b: Sequence[Any]) -> tf.Tensor:
    """Σ_i a_i·b_i over two lists of tensors, as a float64 scalar."""
    return tf.reduce_sum(dots(a, b))


@tf.function(autograph=False)
def checksum(theta: Any) -> tf.Tensor:
    """An int64 scalar that changes with any bit, and with the order, of tensors."""
    # A sum of integers does not depend on the order in which devices add them.
    total = tf.zeros((), "int64")
    for i, weight in enumerate(theta):
        if weight.dtype == tf.float64:
            bits = tf.bitcast(weight, tf.int64)
        elif (weight.shape.num_elements() or 1) % 2 == 0:
            # Two at a time: no copy of the weights as integers.
            bits = tf.bitcast(tf.reshape(weight, (-1, 2)), tf.int64)
        else:
            bits = tf.cast(tf.bitcast(weight, tf.int32), "int64")
        total += (2 * i + 1) * tf.reduce_sum(_mixed(tf.reshape(bits, [-1])))
    return total


def _mixed(bits: Any) -> tf.Tensor:
    """Each integer mixed with its position, so that a permutation changes the sum."""
    positions = tf.range(tf.size(bits, out_type="int64"))
    # Odd constants, hence one-to-one modulo 2^64. Without the shift, sums of changed
    # signs could cancel.
    mixed = (bits + positions * _ODD_FOR_POSITIONS) * _ODD_FOR_BITS
    return tf.bitwise.bitwise_xor(mixed, tf.bitwise.right_shift(mixed, _HALF))
