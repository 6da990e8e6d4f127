"""What a `tf.data.Dataset` was made from."""

from collections.abc import Iterator
from typing import Any

import tensorflow as tf


def datasets_within(data: Any) -> Iterator[tf.data.Dataset]:
    """Yields a dataset and all the datasets that it was derived from.

    Nothing is yielded for other data. TensorFlow has no public name for the inputs of a
    dataset, nor for the dataset that a strategy has distributed.
    """
    if isinstance(data, tf.distribute.DistributedDataset):
        data = getattr(data, "_original_dataset", None)
    if isinstance(data, tf.data.Dataset):
        yield data
        for source in data._inputs():
            yield from datasets_within(source)
