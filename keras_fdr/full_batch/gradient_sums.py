"""The gradient of the loss f over a dataset, from sums that add over batches."""

from typing import Any

import tensorflow as tf

from keras_fdr.full_batch.objective import Objective
from keras_fdr.products import dot


class GradientSums:
    """Computes what one batch adds to f and ∇f, and f and ∇f from the totals.

    Here f is the loss over the whole dataset with all regularisers.

    Args:
        objective: The `Objective`, which defines f.
        training: Boolean, whether layers run as in training. Defaults to `False`.
    """

    def __init__(self, objective: Objective, training: bool = False) -> None:
        self._objective = objective
        self._training = training

    def of_batch(self, x: Any, y: Any, sample_weight: Any = None) -> Any:
        """The sums over one batch.

        Returns:
            `((sums, gradients), y_pred)`. `sums` are the `Sums` of the objective in
            float64, and `gradients` has the gradient of each numerator. Both may be
            added over batches and replicas. `y_pred` are the predictions.
        """
        theta = [w.value for w in self._objective.weights]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(theta)
            sums, y_pred = self._objective.sums(x, y, sample_weight, self._training)
            # In float16 layers the gradient of a sum over the batch can overflow, and
            # the gradient of a mean can underflow. This scale lies between the two.
            examples = tf.maximum(sums.denominators[0], 1)
            scale = tf.cast(tf.sqrt(examples), sums.numerators[0].dtype)
            scaled = [n / scale for n in sums.numerators]
        gradients = [tape.gradient(n, theta) for n in scaled]
        self._connected = [
            any(g is not None for g in of_one)
            for of_one in zip(*gradients, strict=True)
        ]
        zeros = [tf.zeros(w.shape, w.dtype) for w in theta]
        gradients = [
            [
                zero if g is None else _dense(g, zero) * tf.cast(scale, zero.dtype)
                for g, zero in zip(of_all, zeros, strict=True)
            ]
            for of_all in gradients
        ]
        sums = tf.nest.map_structure(lambda s: tf.cast(s, "float64"), sums)
        return (sums, gradients), y_pred

    def finish(self, sums: Any, gradients: Any) -> tuple[Any, Any, Any, Any, Any]:
        """What the totals of `of_batch` over the whole dataset give.

        Args:
            sums: The total of the `Sums`.
            gradients: The total of the gradients of each numerator.

        Returns:
            `(loss, gradient_norm_squared, examples, losses, gradient)`: f, |∇f|², the
            number of examples, a dictionary of each loss where there are several, and
            ∇f as a list of tensors.
        """
        theta = [tf.convert_to_tensor(w.value) for w in self._objective.weights]
        with tf.GradientTape() as tape:
            tape.watch(theta)
            regularisation = self._objective.regularisation(theta, self._connected)
        gradient = tape.gradient(
            regularisation, theta, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        loss = tf.cast(regularisation, "float64")
        for n, d, parts in zip(*sums[:2], gradients, strict=True):
            loss += tf.math.divide_no_nan(n, d)
            scale = tf.math.divide_no_nan(tf.ones_like(d), d)
            for i, part in enumerate(parts):
                gradient[i] += part * tf.cast(scale, part.dtype)
        losses = {
            name: tf.math.divide_no_nan(n, d) for name, (n, d) in sums.losses.items()
        }
        return loss, dot(gradient, gradient), sums.denominators[0], losses, gradient


def _dense(gradient: Any, like: Any) -> Any:
    # Embeddings have gradients that are `IndexedSlices`. Kernels on sequences have
    # gradients of unknown shape.
    return tf.ensure_shape(tf.convert_to_tensor(gradient), like.shape)
