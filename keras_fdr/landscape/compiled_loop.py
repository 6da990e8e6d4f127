"""Many training steps on chosen batches in one compiled call."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_fdr.data import TrainingSet


class CompiledLoop:
    """Trains on chosen examples without leaving the device.

    Each step is `model.train_step`, as in `fit`. The data stay on the device, and only
    the numbers of the chosen examples are sent to it.

    Args:
        model: A built and compiled `keras.Model`.
        dataset: What `TrainingSet` takes, or a `TrainingSet` that is in memory.
    """

    def __init__(self, model: keras.Model, dataset: Any) -> None:
        self._arrays = TrainingSet.of(dataset, in_memory=True).arrays
        self._model = model
        self._run = tf.function(
            self._steps,
            autograph=False,
            jit_compile=bool(model.jit_compile),
            reduce_retracing=True,
        )

    def run(self, batches: np.ndarray, start: int = 0, stop: int | None = None) -> None:
        """Trains on the batches from row `start` up to row `stop`.

        Args:
            batches: Integer array of shape `(steps, batch_size)`: the examples of
                each step. The loop compiles once for a shape, for all values of
                `start` and `stop`.
            start: Integer, the first row to use. Defaults to `0`.
            stop: Integer, the row before which to stop. Defaults to `None`, the end.
        """
        stop = len(batches) if stop is None else stop
        if stop > start:
            self._run(
                tf.constant(batches, tf.int32), tf.constant(start), tf.constant(stop)
            )

    def _steps(self, batches: Any, start: Any, stop: Any) -> None:
        def step(row: Any) -> Any:
            self._model.train_step(gather(self._arrays, batches[row]))
            return row + 1

        tf.while_loop(lambda row: row < stop, step, [start])


def gather(arrays: Any, examples: Any) -> Any:
    """Picks examples from (nested) tensors.

    Args:
        arrays: (Nested) tensors whose first axis counts examples.
        examples: Integer tensor, the numbers of the examples to pick.

    Returns:
        The same structure with only these examples.
    """
    return tf.nest.map_structure(lambda a: tf.gather(a, examples), arrays)
