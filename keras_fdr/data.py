"""Finite labelled data, as a `tf.data.Dataset` of batches or as arrays."""

import math
import zlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_WHAT_TO_PASS = (
    "`dataset` must be a finite `tf.data.Dataset` of batches `(x, y)` or "
    "`(x, y, sample_weight)`, or a tuple of arrays of that form."
)


# A batch made from arrays: large ones are faster, up to a few thousand examples, but
# what the layers compute of them must fit into memory too.
_BATCH_BYTES = 2**24
_BATCH_EXAMPLES = 4096


class TrainingSet:
    """Labelled data, checked once, as batches and as arrays.

    Args:
        dataset: `tf.data.Dataset` of batches `(x, y[, sample_weight])`, or a tuple
            of (nested) arrays of that form with the examples along axis 0.
        in_memory: Boolean, whether a `tf.data.Dataset` is read into memory. Arrays are
            there already. Defaults to `False`.

    Raises:
        TypeError: If `dataset` is neither.
        ValueError: If it is empty, infinite, unlabelled, or of unequal lengths.
    """

    def __init__(self, dataset: Any, in_memory: bool = False) -> None:
        self._arrays: Any = None
        if isinstance(dataset, tf.data.Dataset):
            self._batches = _check_batches(dataset)
            if not in_memory:
                return
            dataset = _read(self._batches)
        self._arrays = _as_arrays(dataset)
        self._batches = _batches_of(self._arrays)

    @classmethod
    def of(cls, dataset: Any, in_memory: bool = False) -> "TrainingSet":
        """The `TrainingSet` of a dataset; one that is passed stays the same.

        Args:
            dataset: A `TrainingSet`, or what its constructor takes.
            in_memory: As in the constructor.
        """
        if not isinstance(dataset, cls):
            return cls(dataset, in_memory)
        if in_memory and not dataset.in_memory:
            return cls(dataset.batches, in_memory)
        return dataset

    @property
    def in_memory(self) -> bool:
        """Boolean, whether there are arrays."""
        return self._arrays is not None

    @property
    def batches(self) -> tf.data.Dataset:
        """`tf.data.Dataset` of `(x, y[, sample_weight])`.

        Batches of arrays hold at most 16 MiB and 4,096 examples.
        """
        return self._batches

    @property
    def spec(self) -> Any:
        """The (nested) `tf.TensorSpec`s of a batch, of any size if made from arrays."""
        if not self.in_memory:
            return self._batches.element_spec
        return tf.nest.map_structure(
            lambda a: tf.TensorSpec([None, *a.shape[1:]], a.dtype), self._arrays
        )

    @property
    def arrays(self) -> Any:
        """Tuple `(x, y)` or `(x, y, sample_weight)` of (nested) tensors in memory."""
        assert self._arrays is not None, "`in_memory` was not asked for"
        return self._arrays

    @property
    def examples(self) -> int:
        """Integer, the number of examples in memory."""
        return _length(self.arrays)

    def checksum(self) -> int:
        """A number that tells one dataset in memory from another."""
        total = 0
        for array in tf.nest.flatten(self.arrays):
            if array.dtype == tf.string:
                total = zlib.crc32(tf.io.serialize_tensor(array).numpy(), total)
            else:
                total = zlib.crc32(np.ascontiguousarray(array.numpy()).data, total)
        return total


def _read(batches: tf.data.Dataset) -> Any:
    """The data of a `tf.data.Dataset` as one batch."""
    batches = list(batches)
    if not batches:
        raise ValueError(f"{_WHAT_TO_PASS} Received: an empty dataset")
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *batches)


def _batches_of(arrays: Any) -> tf.data.Dataset:
    examples = _length(arrays)
    size = _batch_size(arrays, examples)
    if size == examples:
        # To start an iterator over a map would take longer than such a batch.
        return tf.data.Dataset.from_tensors(arrays)
    starts = tf.data.Dataset.range(0, examples, size)

    def batch(start: tf.Tensor) -> Any:
        return tf.nest.map_structure(lambda a: a[start : start + size], arrays)

    return starts.map(batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def _as_arrays(dataset: Any) -> Any:
    """A tuple `(x, y[, sample_weight])` of (nested) tensors from one of arrays."""
    if not isinstance(dataset, (tuple, list)):
        raise TypeError(f"{_WHAT_TO_PASS} Received: {type(dataset).__name__}")
    if len(dataset) == 3 and dataset[2] is None:
        dataset = dataset[:2]
    _check_labelled(dataset, f"{len(dataset)} parts")
    try:
        arrays = tf.nest.map_structure(_to_tensor, _without_lists(dataset))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{_WHAT_TO_PASS} Received: what cannot be made a tensor: {error}"
        ) from error
    _length(arrays)
    return arrays


def _length(arrays: Any) -> int:
    """The number of examples of (nested) tensors with the examples along axis 0."""
    lengths = [int(a.shape[0]) if a.shape.rank else 0 for a in tf.nest.flatten(arrays)]
    if len(set(lengths)) > 1 or not lengths[0]:
        raise ValueError(
            "The arrays must have the same number of examples along axis 0, at least "
            f"one. Received: {lengths}"
        )
    return lengths[0]


def _batch_size(arrays: Any, examples: int) -> int:
    """The batch size, as large as is allowed, with which batches are nearly equal."""
    flat = tf.nest.flatten(arrays)
    # The dtype of strings has no size. 8 bytes, that of a pointer, are a rough guess.
    size = sum((a.dtype.size or 8) * a.shape[1:].num_elements() for a in flat)
    largest = max(1, min(_BATCH_EXAMPLES, _BATCH_BYTES // max(size, 1)))
    return math.ceil(examples / math.ceil(examples / largest))


def _without_lists(structure: Any) -> Any:
    # `tf.data` would stack the arrays of a list into one.
    if isinstance(structure, (list, tuple)):
        return tuple(_without_lists(part) for part in structure)
    if isinstance(structure, dict):
        return {name: _without_lists(part) for name, part in structure.items()}
    return structure


def _to_tensor(array: Any) -> tf.Tensor:
    tensor = tf.convert_to_tensor(array)
    # As `fit` does with NumPy's default dtype.
    return (
        tf.cast(tensor, keras.config.floatx()) if tensor.dtype.is_floating else tensor
    )


def _check_batches(dataset: tf.data.Dataset) -> tf.data.Dataset:
    _check_labelled(dataset.element_spec, f"elements {dataset.element_spec}")
    cardinality = dataset.cardinality()
    if cardinality == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"{_WHAT_TO_PASS} Received: an infinite dataset; leave out `.repeat()`, "
            "or end it with `.take(batches)`"
        )
    if cardinality == 0:
        raise ValueError(f"{_WHAT_TO_PASS} Received: an empty dataset")
    return dataset


def _check_labelled(parts: Any, received: str) -> None:
    labelled = isinstance(parts, (tuple, list)) and len(parts) in (2, 3)
    if not labelled or parts[1] is None:
        none = ", the labels are None" if labelled else ""
        raise ValueError(f"{_WHAT_TO_PASS} Received: {received}{none}")
