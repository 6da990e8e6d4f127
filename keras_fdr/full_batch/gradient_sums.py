"""The gradient of f over a dataset, from sums that add over batches."""

import tensorflow as tf

from keras_fdr.products import dot


class GradientSums:
    """What one batch contributes to f and ∇f, and what the totals make.

    Args:
        objective: The `Objective`.
        training: Boolean, whether layers run as in training. Defaults to `False`.
    """

    def __init__(self, objective, training=False):
        self._objective = objective
        self._training = training

    def of_batch(self, x, y, sample_weight=None):
        """The sums over one batch.

        Returns:
            `((sums, gradients), y_pred)`: the `Sums` of the objective in float64,
            the gradient of each numerator, and the predictions. The first two of
            several batches, or replicas, may be added.
        """
        theta = [w.value for w in self._objective.weights]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(theta)
            sums, y_pred = self._objective.sums(x, y, sample_weight, self._training)
            # float16 layers: the gradient of a sum over the batch can overflow, that
            # of a mean can underflow.
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

    def finish(self, sums, gradients):
        """f, |∇f|², the examples, each loss and ∇f from totals of `of_batch`."""
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


def _dense(gradient, like):
    # Embeddings deliver `IndexedSlices`, kernels on sequences unknown shapes.
    return tf.ensure_shape(tf.convert_to_tensor(gradient), like.shape)
