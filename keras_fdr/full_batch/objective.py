"""The loss f that a compiled model minimises, in parts that add over batches."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

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
    """What one batch adds to the data part of f, which is f without regularisers.

    Each loss of a compiled model is a mean Σ_α w_α ℓ_α / D over the terms α, with the
    term ℓ_α, its weight w_α and a denominator D. In most models D is the number of
    examples times a constant. Then one numerator can hold all losses. But masks, sample
    weights and ragged lengths can decide D. Then D is known only after the whole
    dataset, so such a loss has a separate numerator and denominator.

    The data part of f is Σ_i numerators[i]/denominators[i], after both were summed over
    all batches.

    Args:
        numerators: List of scalars. The first is the sum over all losses whose D is
            proportional to the number of examples. Each other loss follows, times its
            loss weight.
        denominators: List of float64 scalars. The first is the number of examples, and
            the D of each other loss follows.
        losses: Dictionary from the name of each loss to its numerator and denominator.
            It is empty if the model has only one loss.
    """

    numerators: list[Any]
    denominators: list[Any]
    losses: dict[str, tuple[Any, Any]]


class Objective:
    """The loss f of a compiled model: the mean data loss plus all regularisers.

    This is the loss that `fit` minimises. It has the loss of each output with its loss
    weight, sample weights and masks, and the regularisers of the layers. With an
    `FDRSGD` it also has ½λ|θ|², with the weights θ and λ the optimizer's `l2`. A loss
    that is not a mean over examples raises an error, which names the loss.

    Args:
        model: A compiled `keras.Model`. It is built here if necessary.
        batch_spec: `(x, y[, sample_weight])` of `tf.TensorSpec`.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If it is not compiled with an optimizer and a loss, computes its
            loss itself, or takes another number of inputs or labels.
    """

    def __init__(self, model: keras.Model, batch_spec: Any) -> None:
        check_model(model)
        # A model with an overridden `train_step` may have no loss. Then the method is
        # the reason to name, so it is checked first.
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

    def is_current(self, model: keras.Model) -> bool:
        """Whether this is the loss of `model`, and the model was not compiled again."""
        return model is self.model and _compat.compiled_loss(model) is self._compiled

    @property
    def weights(self) -> list[keras.Variable]:
        """The weights θ, which are the variables that the optimizer was built for.

        A layer that is frozen without compiling again still trains in `fit`, so it
        counts. The scales of float8 layers do not count. Keras lists them as trainable,
        but overwrites them with what it calls their gradient.
        """
        if self._optimizer.built:
            trained = _compat.built_weights(self._optimizer)
        else:
            trained = self.model.trainable_variables
        return [w for w in trained if not w.overwrite_with_gradient]

    def sums(
        self, x: Any, y: Any, sample_weight: Any, training: bool
    ) -> tuple[Sums, Any]:
        """Computes one batch.

        Args:
            x: (Nested) tensors, the inputs.
            y: (Nested) tensors, the labels.
            sample_weight: (Nested) tensors, or `None`.
            training: Boolean, whether layers run as in training.

        Returns:
            `(sums, y_pred)`: the `Sums` of the batch, and the predictions.
        """
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

    def regularisation(self, theta: Sequence[Any], connected: Sequence[bool]) -> Any:
        """The sum of all regularisers, a scalar.

        Args:
            theta: List of tensors, the values of `weights`.
            connected: List of booleans, whether the data loss depends on each weight.
                The optimizer's λ acts only on weights that have a gradient.
        """
        total = tf.zeros((), keras.config.floatx())
        for weight, value, used in zip(self.weights, theta, connected, strict=True):
            if weight.regularizer is not None:
                total += tf.cast(weight.regularizer(value), total.dtype)
            if self.l2 and (used or weight.regularizer is not None):
                total += self.l2 * tf.cast(tf.nn.l2_loss(value), total.dtype)
        return total

    def gradient(
        self, x: Any, y: Any, sample_weight: Any, training: bool = False
    ) -> list[Any]:
        """The gradient of the loss of one batch, with all regularisers.

        Args:
            x: (Nested) tensors, the inputs.
            y: (Nested) tensors, the labels.
            sample_weight: (Nested) tensors, or `None`.
            training: Boolean, whether layers run as in training. Defaults to `False`.

        Returns:
            List of tensors, one for each of `weights`. It has `None` for a weight that
            the loss does not depend on.
        """
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
def refusing(batch_spec: Any, *passed_on: type[Exception]) -> Iterator[None]:
    """Turns the errors of Keras and TensorFlow about unfit batches into a clear one.

    Args:
        batch_spec: `(x, y[, sample_weight])` of `tf.TensorSpec`.
        *passed_on: Types of errors that are already clear. They are raised unchanged.

    Raises:
        ValueError: If the code within fails.
    """
    try:
        yield
    except passed_on:
        raise
    except Exception as error:
        # The first lines say the reason. Keras' list of arguments follows.
        reason = " ".join(str(error).split())[:400]
        raise ValueError(
            "The model, its loss and its metrics must be able to compute each batch "
            "of `dataset`. Check shapes and dtypes. A `tf.data.Dataset` must consist "
            "of batches. If it has single examples, call `.batch(...)` on it. "
            f"Received: {batch_spec}, which fails with {type(error).__name__}: {reason}"
        ) from error


def _plus(a: Any, b: Any) -> Any:
    """The sum of two gradients, each of which may be `None`."""
    known = [tf.convert_to_tensor(g) for g in (a, b) if g is not None]
    return sum(known[1:], known[0]) if known else None
