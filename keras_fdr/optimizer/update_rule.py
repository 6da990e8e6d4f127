"""The gradient of the L2 term, and the update of one weight: eqs. (10) and (11)."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_fdr.products import stacked


def add_l2(
    gradients: Sequence[tf.Tensor | None],
    theta: Sequence[tf.Tensor],
    loss: tf.Tensor | None,
    l2: float,
) -> tuple[list[tf.Tensor | None], tf.Tensor | None]:
    """Adds the term ½λ|θ|² to the loss and its gradient to the gradients.

    Args:
        gradients: List of tensors. `None` leaves that weight out.
        theta: List of tensors, the weights.
        loss: Scalar tensor, the mini-batch loss, or `None` if it is not known.
        l2: Float, λ.

    Returns:
        `(gradients, loss)`.
    """
    pairs = list(zip(gradients, theta, strict=True))
    if loss is not None:
        halves = stacked([tf.nn.l2_loss(w) for g, w in pairs if g is not None])
        l2_term = l2 * tf.reduce_sum(tf.cast(halves, "float64"))
        loss = tf.cast(loss, "float64") + l2_term
    return [None if g is None else g + l2 * w for g, w in pairs], loss


def apply_update(
    weight: keras.Variable,
    velocity: keras.Variable | None,
    gradient: tf.Tensor | tf.IndexedSlices,
    learning_rate: tf.Tensor,
    momentum: float,
    dampening: float,
) -> None:
    """Moves one weight by eqs. (10) and (11).

    Args:
        weight: The weight θ.
        velocity: Its velocity v, or `None` if `momentum` is 0.
        gradient: The gradient ∇f^B of this weight. A `tf.IndexedSlices` moves only its
            rows. It needs `velocity=None`.
        learning_rate: Scalar tensor, η.
        momentum: Float, μ.
        dampening: Float, ν.
    """
    theta = weight.value
    eta = tf.cast(learning_rate, theta.dtype)
    if isinstance(gradient, tf.IndexedSlices):
        tf.raw_ops.ResourceScatterSub(
            resource=theta.handle,
            indices=gradient.indices,
            updates=(1 - dampening) * eta * gradient.values,
        )
        return
    if velocity is None:
        tf.raw_ops.ResourceApplyGradientDescent(
            var=theta.handle, alpha=(1 - dampening) * eta, delta=gradient
        )
        return
    # The operation computes accum ← momentum·accum + grad and var ← var − lr·accum.
    # With lr = −η the slot is v(t+1) itself, eq. (10), and var follows eq. (11).
    tf.raw_ops.ResourceApplyMomentum(
        var=theta.handle,
        accum=velocity.value.handle,
        lr=-eta,
        grad=-(1 - dampening) * gradient,
        momentum=tf.constant(momentum, theta.dtype),
    )
