"""Batches of arrays in an order that is new in every epoch and follows from a seed."""

import itertools
import math
import weakref
from typing import Any

import numpy as np
import tensorflow as tf

from keras_fdr import _compat
from keras_fdr.arguments import check_integer
from keras_fdr.data import TrainingSet

_DRAWS = ("reshuffled", "independent")


def shuffled_batches(
    x: Any,
    y: Any,
    batch_size: int,
    seed: int,
    sample_weight: Any = None,
    draw: str = "reshuffled",
) -> tf.data.Dataset:
    """Makes batches for `fit`, in an order that is new in every epoch.

    After `keras.utils.set_random_seed`, `fit(x, y)` repeats the same batches in the
    same order in every epoch, so the noise of the gradient is a cycle and not random.
    The dataset returned here is shuffled anew each time it is iterated over. The n-th
    iteration of two datasets with the same seed gives the same batches.

    `FDRCallback` chooses the order of each epoch of `fit` by the number of steps that
    the optimizer has taken. Every checkpoint holds that number, so a run that was
    killed resumes with the batches that it would have had, and a second `fit` gets new
    ones. On several workers all have the same order, and each takes its share.

    Two ways to draw the batches:

    - `"reshuffled"`: every example comes once in an epoch, as in `fit(x, y)`. The last
      batch is smaller if `batch_size` does not divide the number of examples.
    - `"independent"`: each batch is drawn from all examples, independently of the
      other batches, so that E[∇f^B|θ] = ∇f, which FDR2 needs. No batch holds an
      example twice. An epoch has as many batches as fit into the data.

    Example:

    >>> import numpy as np
    >>> from keras_fdr import shuffled_batches
    >>> x, y = np.arange(6.0), np.arange(6)
    >>> dataset = shuffled_batches(x, y, batch_size=3, seed=0)
    >>> for epoch in range(2):
    ...     print([labels.numpy().tolist() for _, labels in dataset])
    [[3, 2, 5], [4, 0, 1]]
    [[1, 4, 3], [0, 2, 5]]

    Args:
        x: Array, or a nested structure (tuples, lists, dictionaries) of arrays, with
            the examples along axis 0: NumPy arrays or tensors, held in memory.
        y: The labels, in the same form.
        batch_size: Integer, at least 1: examples of a (global) batch. With
            `draw="independent"` at most the number of examples.
        seed: Integer, at least 0.
        sample_weight: Array, or a nested structure of arrays: the weights of the
            examples. Defaults to `None`.
        draw: `"reshuffled"` or `"independent"`. Defaults to `"reshuffled"`.

    Returns:
        A `tf.data.Dataset` of batches `(x, y)` or `(x, y, sample_weight)`.

    Raises:
        TypeError: If `batch_size` or `seed` is not an integer.
        ValueError: If an argument is out of range, if the labels are missing, or if
            the arrays differ in length.
    """
    batch_size = check_integer("batch_size", batch_size, 1)
    seed = check_integer("seed", seed, 0)
    if draw not in _DRAWS:
        raise ValueError(f"`draw` must be one of {_DRAWS}. Received: draw={draw!r}")
    # The pipeline runs on the host.
    with tf.device("CPU"):
        parts = (x, y) if sample_weight is None else (x, y, sample_weight)
        data = TrainingSet(parts)
        arrays = tf.nest.map_structure(tf.identity, data.arrays)
    examples = data.examples
    if draw == "independent":
        check_integer("batch_size", batch_size, 1, examples)
        orders = _Orders(seed, examples, batch_size, independent=True)
        steps = examples // batch_size
    else:
        orders = _Orders(seed, examples, batch_size, independent=False)
        steps = math.ceil(examples / batch_size)

    def order(_: Any) -> Any:
        drawn = tf.numpy_function(orders.draw, [], tf.int32)
        return tf.ensure_shape(drawn, [None])

    def rows(order: Any) -> tf.data.Dataset:
        starts = tf.data.Dataset.range(0, steps * batch_size, batch_size)
        return starts.map(lambda start: order[start : start + batch_size])

    def batch(rows: Any) -> Any:
        return tf.nest.map_structure(lambda a: tf.gather(a, rows), arrays)

    dataset = tf.data.Dataset.range(1).map(order).flat_map(rows)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
    dataset = dataset.map(batch, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.prefetch(tf.data.AUTOTUNE).with_options(_options())
    _ORDERS[dataset] = orders
    return dataset


def set_position(dataset: Any, steps: int) -> None:
    """Sets the order that a dataset of `shuffled_batches` has next.

    Args:
        dataset: Any data of `fit`. A dataset that was derived from one of
            `shuffled_batches`, by `map` for instance, counts as well.
        steps: Integer, the number of steps before. The order is a function of it.
    """
    for part in _compat.datasets_within(dataset):
        if part in _ORDERS:
            _ORDERS[part].set_position(steps)


class _Orders:
    """The order of the examples, another one each time."""

    def __init__(
        self, seed: int, examples: int, batch_size: int, independent: bool
    ) -> None:
        self._seed, self._examples = seed, examples
        self._batch_size, self._independent = batch_size, independent
        self._positions = itertools.count()

    def set_position(self, position: int) -> None:
        self._positions = itertools.count(position)

    def draw(self) -> np.ndarray:
        """The examples of one epoch, batch after batch."""
        rng = np.random.default_rng([self._seed, next(self._positions)])
        if not self._independent:
            return reshuffled_order(rng, self._examples)
        steps = self._examples // self._batch_size
        return independent_batches(
            rng, self._examples, self._batch_size, steps
        ).reshape(-1)


_ORDERS: weakref.WeakKeyDictionary[tf.data.Dataset, _Orders] = (
    weakref.WeakKeyDictionary()
)


def _options() -> tf.data.Options:
    options = tf.data.Options()
    # Each worker goes through all batches and takes its share of each.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    # TensorFlow would warn that a copy of the pipeline does not copy the position. The
    # copies that it makes for its workers are meant to share the position.
    options.experimental_external_state_policy = (
        tf.data.experimental.ExternalStatePolicy.IGNORE
    )
    return options


def reshuffled_order(rng: np.random.Generator, examples: int) -> np.ndarray:
    """All examples in a random order.

    Args:
        rng: A `numpy.random.Generator`.
        examples: Integer, N_s.

    Returns:
        Integer array of shape `(examples,)`.
    """
    return rng.permutation(examples).astype(np.int32)


def whole_batches(order: np.ndarray, batch_size: int) -> np.ndarray:
    """The batches of an order of the examples, without what does not fill a batch.

    A smaller batch would be drawn from another distribution.

    Args:
        order: Integer array of shape `(examples,)`.
        batch_size: Integer, |B|.

    Returns:
        Integer array of shape `(examples // batch_size, batch_size)`.
    """
    steps = len(order) // batch_size
    return order[: steps * batch_size].reshape(steps, batch_size)


def independent_batches(
    rng: np.random.Generator, examples: int, batch_size: int, count: int
) -> np.ndarray:
    """Batches drawn independently of one another: E[∇f^B|θ] = ∇f.

    Args:
        rng: A `numpy.random.Generator`.
        examples: Integer, N_s.
        batch_size: Integer, |B|. A batch holds no example twice.
        count: Integer, the number of batches.

    Returns:
        Integer array of shape `(count, batch_size)`.
    """
    draw = [
        rng.choice(examples, batch_size, replace=False, shuffle=False)
        for _ in range(count)
    ]
    return np.array(draw, dtype=np.int32).reshape(count, batch_size)
