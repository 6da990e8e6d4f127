"""The function f that a compiled model minimises, in parts that add over batches."""

import contextlib
from typing import NamedTuple

import keras
import tensorflow as tf

from keras_fdr import _compat
from keras_fdr.model_checks import (
    check_compiled,
    check_model,
    check_own_loss,
    check_structure,
)


class Sums(NamedTuple):
    """What one batch contributes to the data part of f.

    Each loss of a compiled model is a mean Σ_α w_α ℓ_α / D. D is the number of
    examples times a constant, unless masks, sample weights or ragged lengths decide
    it: then its sum over the whole dataset is known at the end only, and the loss
    needs a sum of its own. The data part of f is Σ_i numerators[i]/denominators[i]
    with both summed over all batches.

    Args:
        numerators: List of scalars. The first is the sum over all losses whose D is
            proportional to the examples; each other loss follows, times its weight.
        denominators: List of float64 scalars: the examples, then each D.
        losses: Dictionary from the name of each loss, where there are several, to
            its own numerator and denominator.
    """

    numerators: list
    denominators: list
    losses: dict


class Objective:
    """f = mean data loss + all regularisers, of a compiled model.

    The loss is the one that `fit` minimises: every output's loss with its weight,
    sample weights and masks, the layers' regularisers, and ½λ|θ|² with the λ of an
    `FDRSGD`. What is not a mean over examples is refused by name.

    Args:
        model: A compiled `keras.Model`; it is built if it is not yet.
        batch_spec: `(x, y[, sample_weight])` of `tf.TensorSpec`.

    Raises:
        TypeError: If `model` is no `keras.Model`.
        ValueError: If it is not compiled with an optimizer and a loss, computes its
            loss itself, or takes another number of inputs or labels.
    """

    def __init__(self, model, batch_spec):
        check_model(model)
        # An overridden `train_step` is the true reason, also where there is no loss.
        check_own_loss(model)
        check_compiled(model, loss=True)
        check_structure(model, batch_spec)
        with refusing(batch_spec):
            _compat.build(model, batch_spec)
        self.model = model
        optimizer = model.optimizer
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        self.l2 = getattr(inner, "l2", 0.0)
        self._optimizer = inner
        self._compiled = _compat.compiled_loss(model)

    def is_current(self, model):
        """Whether this is the objective of `model` as it is compiled now."""
        return model is self.model and _compat.compiled_loss(model) is self._compiled

    @property
    def weights(self):
        """List of `keras.Variable`: θ, those that the optimizer was built for.

        A layer that is frozen without compiling again still trains in `fit`. The
        scales of float8 layers are not weights: Keras lists them as trainable, but
        overwrites them with what it calls their gradient.
        """
        if self._optimizer.built:
            trained = _compat.built_weights(self._optimizer)
        else:
            trained = self.model.trainable_variables
        return [w for w in trained if not w.overwrite_with_gradient]

    def sums(self, x, y, sample_weight, training):
        """The `Sums` of one batch, and its predictions."""
        model = self.model
        examples = tf.shape(tf.nest.flatten(x)[0])[0]
        arguments = {"training": training} if _compat.takes_training(model) else {}
        y_pred = model(x, **arguments)
        parts = _compat.loss_parts(model, y, y_pred, sample_weight)
        per_example = tf.zeros((), keras.config.floatx())
        numerators, denominators = [], [tf.cast(examples, "float64")]
        for part in parts:
            weighted = tf.cast(part.numerator, per_example.dtype) * part.weight
            if part.per_example:
                per_example += weighted / part.per_example
            else:
                numerators.append(weighted)
                denominators.append(tf.cast(part.denominator, "float64"))
        for loss in _compat.activity_losses(model):
            per_example += tf.cast(loss, per_example.dtype) * tf.cast(
                examples, per_example.dtype
            )
        several = parts if len(parts) > 1 else []
        losses = {f"{p.name}_loss": (p.numerator, p.denominator) for p in several}
        return Sums([per_example, *numerators], denominators, losses), y_pred

    def regularisation(self, theta, connected):
        """All regularisers at θ, a scalar.

        Args:
            theta: List of tensors or variables, one per entry of `weights`.
            connected: List of booleans, whether the data loss depends on it. The
                optimizer's λ acts on those weights only that have a gradient.
        """
        total = tf.zeros((), keras.config.floatx())
        for weight, value, used in zip(self.weights, theta, connected, strict=True):
            if weight.regularizer is not None:
                total += tf.cast(weight.regularizer(value), total.dtype)
            if self.l2 and (used or weight.regularizer is not None):
                total += self.l2 * tf.cast(tf.nn.l2_loss(value), total.dtype)
        return total

    def gradient(self, x, y, sample_weight, training=False):
        """∇f^B with all regularisers: list of tensors, `None` where independent."""
        theta = [w.value for w in self.weights]
        with tf.GradientTape() as tape:
            tape.watch(theta)
            sums, _ = self.sums(x, y, sample_weight, training)
            loss = tf.zeros((), sums.numerators[0].dtype)
            for n, d in zip(sums.numerators, sums.denominators, strict=True):
                loss += tf.math.divide_no_nan(n, tf.cast(d, n.dtype))
        data = tape.gradient(loss, theta)
        connected = [g is not None for g in data]
        with tf.GradientTape() as tape:
            tape.watch(theta)
            regularisation = self.regularisation(theta, connected)
        return [
            _plus(a, b)
            for a, b in zip(data, tape.gradient(regularisation, theta), strict=True)
        ]


@contextlib.contextmanager
def refusing(batch_spec, *passed_on):
    """Turns what Keras and TensorFlow say of unfit batches into one clear error.

    Args:
        batch_spec: `(x, y[, sample_weight])` of `tf.TensorSpec`.
        *passed_on: Types of the errors that are clear already.

    Raises:
        ValueError: If the code within fails.
    """
    try:
        yield
    except passed_on:
        raise
    except Exception as error:
        # The first lines say it; the rest is Keras' list of arguments.
        reason = " ".join(str(error).split())[:400]
        raise ValueError(
            "The model, its loss and its metrics must be able to compute each batch "
            "of `dataset`. Check shapes and dtypes; a `tf.data.Dataset` must consist "
            "of batches, so call `.batch(...)` on one of single examples. "
            f"Received: {batch_spec}, which fails with {type(error).__name__}: {reason}"
        ) from error


def _plus(a, b):
    known = [tf.convert_to_tensor(g) for g in (a, b) if g is not None]
    return sum(known[1:], known[0]) if known else None
