"""The train step of `fit`, over many chosen batches in one compiled call."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_fdr.data import arrays_length, as_arrays


class CompiledLoop:
    """Trains on chosen examples without leaving the device.

    Each step is `model.train_step`, as in `fit`, with the data held on the device;
    nothing but the choice of examples is sent to it.

    Args:
        model: A built and compiled `keras.Model`.
        dataset: What `FullBatchPass` takes; a `tf.data.Dataset` is read into memory.
    """

    def __init__(self, model: keras.Model, dataset: Any) -> None:
        self.arrays = as_arrays(dataset)
        self.examples = arrays_length(self.arrays)
        self._model = model
        self._run = tf.function(
            self._steps,
            autograph=False,
            jit_compile=bool(model.jit_compile),
            reduce_retracing=True,
        )

    def run(self, batches: np.ndarray, start: int = 0, stop: int | None = None) -> None:
        """Takes the steps `start` to `stop` of a list of batches.

        Args:
            batches: Integer array of shape `(steps, batch_size)`: the examples of
                each step. One shape compiles once, whatever `start` and `stop`.
            start: Integer, the first row to use. Defaults to `0`.
            stop: Integer, the row before which to stop. Defaults to `None`, all.
        """
        stop = len(batches) if stop is None else stop
        if stop > start:
            self._run(
                tf.constant(batches, tf.int32), tf.constant(start), tf.constant(stop)
            )

    def _steps(self, batches: Any, start: Any, stop: Any) -> None:
        def step(row: Any) -> Any:
            self._model.train_step(gather(self.arrays, batches[row]))
            return row + 1

        tf.while_loop(lambda row: row < stop, step, [start])


def gather(arrays: Any, examples: Any) -> Any:
    """The given examples of (nested) tensors."""
    return tf.nest.map_structure(lambda a: tf.gather(a, examples), arrays)
