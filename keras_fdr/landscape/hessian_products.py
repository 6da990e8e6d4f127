"""Products of the Hessian of a model's loss with directions, compiled once."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import keras
import tensorflow as tf

from keras_fdr import _compat
from keras_fdr.full_batch.objective import Objective
from keras_fdr.landscape.compiled_loop import gather
from keras_fdr.products import dot

# A model keeps its `HessianProducts` under this name. A dictionary with weak references
# to models would keep each model alive, since the compiled function refers to it. In
# this way both are freed together.
_KEPT_AS = "fdr_hessian_products"


class HessianProducts:
    """Hessian-vector products of one model on mini-batches.

    Args:
        model: A compiled `keras.Model`.
        batch_spec: `(x, y[, sample_weight])` of `tf.TensorSpec`.

    Raises:
        ValueError: As `Objective`.
    """

    def __init__(self, model: keras.Model, batch_spec: Any) -> None:
        self._objective = Objective(model, batch_spec)
        self._batch_spec = batch_spec
        self._weights = self._objective.weights
        self.draws = tf.function(
            self._compute,
            autograph=False,
            jit_compile=bool(model.jit_compile),
            reduce_retracing=True,
        )

    @classmethod
    def of(cls, model: keras.Model, batch_spec: Any) -> "HessianProducts":
        """The products that the model keeps, or new ones if the model has changed.

        Args:
            model: As in the constructor.
            batch_spec: As in the constructor.
        """
        kept = getattr(model, _KEPT_AS, None)
        if kept is None or not kept.is_current(model, batch_spec):
            kept = cls(model, batch_spec)
            setattr(model, _KEPT_AS, kept)
        return kept

    def is_current(self, model: keras.Model, batch_spec: Any) -> bool:
        """Whether loss, weights and kind of batches are still those of this object."""
        objective = self._objective
        return (
            objective.is_current(model)
            and batch_spec == self._batch_spec
            and all(a is b for a, b in zip_longest(objective.weights, self._weights))
        )

    def _compute(
        self, arrays: Any, batches: Any, v: list[Any], momentum: Any, dampening: Any
    ) -> Any:
        """The draws of `CurvatureSampler.draw`."""
        rows = tf.TensorArray("float64", size=tf.shape(batches)[0])

        def one(i: Any, rows: Any) -> tuple[Any, Any]:
            first, second = (gather(arrays, batches[i, j]) for j in (0, 1))
            row = self._draw(first, second, v, momentum, dampening)
            return i + 1, rows.write(i, row)

        count = tf.shape(batches)[0]
        _, rows = tf.while_loop(lambda i, _: i < count, one, [0, rows])
        return rows.stack()

    def _draw(
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

    def product(self, batch: Any, direction: Sequence[Any]) -> list[Any]:
        """The product of the Hessian of f^B with a direction d: the gradient of ∇f^B·d.

        Here f^B is the loss of the mini-batch B. This is reverse-mode over reverse-mode
        differentiation. Forward over reverse took 1.1 to 1.4 times as long here. It
        also fails on recurrent layers inside a compiled function.

        Args:
            batch: `(x, y[, sample_weight])`, the mini-batch.
            direction: List of tensors, d, one per weight.

        Returns:
            List of tensors, one per weight.
        """
        theta = [w.value for w in self._objective.weights]
        with tf.GradientTape() as tape:
            tape.watch(theta)
            along = tf.zeros((), theta[0].dtype)
            for g, d in zip(self._gradient(batch), direction, strict=True):
                if g is not None:
                    along += tf.reduce_sum(g * tf.stop_gradient(d))
        return tape.gradient(
            along, theta, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    def _gradient(self, batch: Any) -> list[Any]:
        with _compat.twice_differentiable(self._objective.model):
            return self._objective.gradient(*(*batch, None)[:3])

    def _zero_where_none(self, tensors: Sequence[Any]) -> list[Any]:
        weights = self._objective.weights
        return [
            tf.zeros(w.shape, w.dtype) if t is None else t
            for t, w in zip(tensors, weights, strict=True)
        ]
