"""Scalar products and checksums of lists of tensors."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_fdr import _compat

# With fewer elements, a call of oneDNN costs more than it saves. A product of two such
# tensors takes less time than the start of its operations.
_SMALL = 2**14
# With these many elements, TensorFlow shares the work of `l2_loss` between threads,
# although this costs more than it saves.
_SQUARES_BY_HALVES = range(2**16, 2**18 + 1)
# `matmul` sums each row sequentially, with an error of 6e-5 at 2²³ elements. Up to 16
# pieces limit the error and keep tracing short.
_PIECES = 16
# Stacking fewer tensors than this costs more than it saves.
_MANY = 4
# The golden ratio and a prime of xxHash, as signed 64-bit integers.
_ODD_FOR_POSITIONS = -7046029254386353131
_ODD_FOR_BITS = -4417276706812531889
_HALF = np.int64(32)


def float64(x: Any) -> tf.Tensor:
    """Converts a number or tensor to a float64 tensor."""
    # `tf.cast` would take a Python number through float32.
    return tf.cast(x, "float64") if tf.is_tensor(x) else tf.constant(x, "float64")


def dots(a: Sequence[Any], b: Sequence[Any]) -> tf.Tensor:
    """The scalar product of each pair of tensors in two lists, as a float64 vector."""
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


def products_of(pairs: Sequence[tuple[Sequence[Any], Sequence[Any]]]) -> tf.Tensor:
    """The scalar products of several pairs of lists, a row for each pair of lists.

    One call for all of them takes fewer operations than a call of `dots` for each.

    Args:
        pairs: List of pairs of lists, all of the same length.

    Returns:
        Float64 tensor of shape `(pairs, length of the lists)`.
    """
    left = [x for a, _ in pairs for x in a]
    right = [y for _, b in pairs for y in b]
    return tf.reshape(dots(left, right), (len(pairs), -1))


def stacked(scalars: Sequence[Any]) -> tf.Tensor:
    """Stacks scalars to a vector, which is float64 if their types differ."""
    return tf.stack(_of_one_type(scalars))


def _of_one_type(tensors: Sequence[Any]) -> Sequence[Any]:
    # One cast of the result costs less than a cast of each tensor.
    if len({tensor.dtype for tensor in tensors}) == 1:
        return tensors
    return [tf.cast(tensor, "float64") for tensor in tensors]


def _alike(tensors: Sequence[Any]) -> Collection[list[int]]:
    """Groups the positions of small tensors by shape. Other tensors stay alone."""
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
    """x·y by the fastest operations: docs/performance.md has the times.

    Accelerators may round the inputs of matrix products, so these are not used there.
    """
    # The size can be unknown while tracing. Then it counts as 0.
    size = x.shape.num_elements() or 0
    if kernels == "xla" and size and x.shape.rank > 1:
        # On CPUs, XLA compiles sums to scalar code, but matrix products to vector code.
        products = tf.reshape(x * y, (-1, x.shape[-1]))
        ones = tf.ones((x.shape[-1], 1), x.dtype)
        return tf.reduce_sum(tf.matmul(products, ones))
    by_halves = size in _SQUARES_BY_HALVES if x is y else size >= _SMALL
    if kernels == "onednn" and by_halves:
        return _by_halves(x, y, size)
    if x is y:
        return 2 * tf.nn.l2_loss(x)
    return tf.reduce_sum(x * y)


def _by_halves(x: Any, y: Any, size: int) -> Any:
    """x·y as products of matrices of two rows."""
    count = min(_PIECES, max(1, size // 2**18))
    # Pieces whose size is a multiple of 64 bytes are not copied.
    length = size // count // 16 * 16
    whole = count * length
    x, y = (tf.reshape(t, [-1]) for t in (x, y))

    def pieces(t: Any) -> list[Any]:
        t = t if whole == size else t[:whole]
        if count == 1:
            return [tf.reshape(t, (2, -1))]
        return tf.unstack(tf.reshape(t, (count, 2, -1)))

    # The sum of the traces is x·y. The off-diagonal half is wasted, but no elementwise
    # product reaches memory.
    products = [
        tf.matmul(a, b, transpose_b=True)
        for a, b in zip(pieces(x), pieces(y), strict=True)
    ]
    total = tf.linalg.trace(tf.add_n(products) if count > 1 else products[0])
    if whole < size:
        total += tf.reduce_sum(x[whole:] * y[whole:])
    return total


def dot(a: Sequence[Any], b: Sequence[Any]) -> tf.Tensor:
    """The scalar product of two lists of tensors, as a float64 scalar."""
    return tf.reduce_sum(dots(a, b))


@tf.function(autograph=False)
def checksum(theta: Any) -> tf.Tensor:
    """An int64 scalar that changes with any bit of tensors, and with their order."""
    # A sum of integers does not depend on the order in which devices add them.
    total = tf.zeros((), "int64")
    for i, weight in enumerate(theta):
        if weight.dtype == tf.float64:
            bits = tf.bitcast(weight, tf.int64)
        elif (weight.shape.num_elements() or 1) % 2 == 0:
            # Two numbers become one integer, so no copy of the weights is needed.
            bits = tf.bitcast(tf.reshape(weight, (-1, 2)), tf.int64)
        else:
            bits = tf.cast(tf.bitcast(weight, tf.int32), "int64")
        total += (2 * i + 1) * tf.reduce_sum(_mixed(tf.reshape(bits, [-1])))
    return total


def _mixed(bits: Any) -> tf.Tensor:
    """Each integer mixed with its position, so that a permutation changes the sum."""
    positions = tf.range(tf.size(bits, out_type="int64"))
    # The constants are odd, so the map is one-to-one modulo 2⁶⁴. Without the shift, the
    # changes of several signs could cancel.
    mixed = (bits + positions * _ODD_FOR_POSITIONS) * _ODD_FOR_BITS
    return tf.bitwise.bitwise_xor(mixed, tf.bitwise.right_shift(mixed, _HALF))
