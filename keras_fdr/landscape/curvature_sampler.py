"""Draws of the curvature along the gradient noise, by Hessian-vector products."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_fdr import _compat
from keras_fdr.batches import independent_batches
from keras_fdr.data import TrainingSet
from keras_fdr.full_batch.objective import Objective
from keras_fdr.landscape.compiled_loop import gather
from keras_fdr.products import dot


class CurvatureSampler:
    """Draws ∇f^Bᵀ H ∇f^B and v(t+1)ᵀ H v(t+1) at the present weights.

    Here f is the loss over the whole dataset, f^B the loss of a mini-batch B, H the
    Hessian of f, and v the velocity. A draw takes the direction from one mini-batch and
    the Hessian from a second, independent one. The mean is the same as with the Hessian
    of the whole dataset, and a draw costs only two batches.

    Args:
        model: A compiled and built `keras.Model`.
        dataset: What `FullBatchPass` takes. A `tf.data.Dataset` is read into memory.
        batch_size: Integer, the examples of a mini-batch.
    """

    def __init__(self, model: keras.Model, dataset: Any, batch_size: int) -> None:
        data = TrainingSet.of(dataset, in_memory=True)
        self._arrays, self._examples = data.arrays, data.examples
        self._objective = Objective(model, data.spec)
        check_batch_size(batch_size, self._examples)
        self._batch_size = batch_size
        self._draws = tf.function(
            self._compute, autograph=False, jit_compile=bool(model.jit_compile)
        )

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
        return self._draws(batches, v, momentum, dampening).numpy()

    def _compute(
        self, batches: Any, v: list[Any], momentum: Any, dampening: Any
    ) -> Any:
        rows = tf.TensorArray("float64", size=tf.shape(batches)[0])

        def one(i: Any, rows: Any) -> tuple[Any, Any]:
            row = self._draw_one(batches[i, 0], batches[i, 1], v, momentum, dampening)
            return i + 1, rows.write(i, row)

        count = tf.shape(batches)[0]
        _, rows = tf.while_loop(lambda i, _: i < count, one, [0, rows])
        return rows.stack()

    def _draw_one(
        self, first: Any, second: Any, v: list[Any], momentum: Any, dampening: Any
    ) -> Any:
        g = self._zero_where_none(self._gradient(first))
        noise = dot(g, self.product(second, g))
        if not v:
            return tf.stack([noise, (1 - dampening) ** 2 * noise])
        v_next = [
            momentum * old - (1 - dampening) * part
            for old, part in zip(v, g, strict=True)
        ]  # eq. (10)
        return tf.stack([noise, dot(v_next, self.product(second, v_next))])

    def product(self, examples: Any, direction: list[Any]) -> list[Any]:
        """The product of the Hessian of f^B with a direction d: the gradient of ∇f^B·d.

        This is reverse-mode over reverse-mode differentiation. Forward over reverse
        took 1.1 to 1.4 times as long here. It also fails on recurrent layers inside a
        compiled function.

        Args:
            examples: Integer tensor, the examples of the mini-batch B.
            direction: List of tensors, d, one per weight.

        Returns:
            List of tensors, one per weight.
        """
        theta = [w.value for w in self._objective.weights]
        with tf.GradientTape() as tape:
            tape.watch(theta)
            along = tf.zeros((), theta[0].dtype)
            for g, d in zip(self._gradient(examples), direction, strict=True):
                if g is not None:
                    along += tf.reduce_sum(g * tf.stop_gradient(d))
        return tape.gradient(
            along, theta, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    def _gradient(self, examples: Any) -> list[Any]:
        batch = gather(self._arrays, examples)
        with _compat.twice_differentiable(self._objective.model):
            return self._objective.gradient(*(*batch, None)[:3])

    def _zero_where_none(self, tensors: Sequence[Any]) -> list[Any]:
        weights = self._objective.weights
        return [
            tf.zeros(w.shape, w.dtype) if t is None else t
            for t, w in zip(tensors, weights, strict=True)
        ]


def check_batch_size(batch_size: int, examples: int) -> None:
    """Refuses a batch size that is larger than the number of examples."""
    if batch_size > examples:
        raise ValueError(
            "`batch_size` must be at most the number of examples, "
            f"{examples}. Received: batch_size={batch_size}"
        )
