"""Draws of the curvature along the gradient noise, by Hessian-vector products."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_fdr.batches import independent_batches
from keras_fdr.data import TrainingSet
from keras_fdr.landscape.compiled_loop import gather
from keras_fdr.landscape.hessian_products import HessianProducts


class CurvatureSampler:
    """Draws ∇f^Bᵀ H ∇f^B and v(t+1)ᵀ H v(t+1) at the present weights.

    Here f is the loss over the whole dataset, f^B the loss of a mini-batch B, H the
    Hessian of f, and v the velocity. A draw takes the direction from one mini-batch and
    the Hessian from a second, independent one. The mean is the same as with the Hessian
    of the whole dataset, and a draw costs only two batches.

    Samplers of the same model and of data of the same structure share one compiled
    function.

    Args:
        model: A compiled and built `keras.Model`.
        dataset: What `FullBatchPass` takes. A `tf.data.Dataset` is read into memory.
        batch_size: Integer, the examples of a mini-batch.
    """

    def __init__(self, model: keras.Model, dataset: Any, batch_size: int) -> None:
        data = TrainingSet.of(dataset, in_memory=True)
        self._arrays, self._examples = data.arrays, data.examples
        self._products = HessianProducts.of(model, data.spec)
        check_batch_size(batch_size, self._examples)
        self._batch_size = batch_size

    def draw(
        self,
        rng: np.random.Generator,
        samples: int,
        velocities: Sequence[keras.Variable] = (),
        momentum: float = 0.0,
        dampening: float = 0.0,
    ) -> np.ndarray:
        """Takes independent draws.

        Args:
            rng: A `numpy.random.Generator`.
            samples: Integer, the number of draws.
            velocities: List of `keras.Variable`, v(t). Defaults to an empty list.
            momentum: Float, μ. Defaults to `0.0`.
            dampening: Float, ν. Defaults to `0.0`.

        Returns:
            Float64 array of shape `(samples, 2)`: ∇f^Bᵀ H ∇f^B and, with
            v(t+1) = μ v(t) − (1−ν) ∇f^B, v(t+1)ᵀ H v(t+1).
        """
        size = self._batch_size
        batches = independent_batches(rng, self._examples, size, 2 * samples)
        v = [tf.convert_to_tensor(w.value) for w in velocities] if momentum else []
        batches = tf.constant(batches.reshape(samples, 2, size))
        draws = self._products.draws(self._arrays, batches, v, momentum, dampening)
        return draws.numpy()

    def product(self, examples: Any, direction: list[Any]) -> list[Any]:
        """The product of the Hessian of f^B with a direction d.

        Args:
            examples: Integer tensor, the examples of the mini-batch B.
            direction: List of tensors, d, one per weight.

        Returns:
            List of tensors, one per weight.
        """
        return self._products.product(gather(self._arrays, examples), direction)


def check_batch_size(batch_size: int, examples: int) -> None:
    """Refuses a batch size that is larger than the number of examples."""
    if batch_size > examples:
        raise ValueError(
            "`batch_size` must be at most the number of examples, "
            f"{examples}. Received: batch_size={batch_size}"
        )
