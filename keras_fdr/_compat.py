"""Every private name of Keras and TensorFlow that this package uses.

Seen in Keras 3.14 and 3.15 on TensorFlow 2.20 and 2.21. When a new release moves
one of these names, this is the only file to change.
"""

from typing import NamedTuple

import keras
import tensorflow as tf
from keras.src.backend import get_keras_mask, set_keras_mask
from keras.src.utils.tracking import DotNotTrackScope


class EffectiveGradientOptimizer(keras.optimizers.Optimizer):
    """Hands a subclass the gradients of all weights of one update at once.

    Keras calls `update_step` once a variable, so no public hook sees a whole
    step. `_backend_apply_gradients` does, and it is also where Keras accumulates
    gradients, clips them and keeps the moving average of the weights. This class
    keeps those three as Keras has them and calls `update` in between.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._step_loss = _StepLoss()

    def build(self, variables):
        """Creates the slots; `variables` is the list of trainable weights."""
        super().build(variables)
        if self.gradient_accumulation_steps:
            self._accumulated_loss = self.add_variable(
                shape=(), dtype="float64", name="accumulated_loss"
            )

    def update(self, gradients, loss):
        """Applies one update.

        Args:
            gradients: list with one entry per entry of `weights`: a dense tensor,
                averaged over accumulated batches, unscaled and not yet clipped;
                or `None` for a weight that the loss does not depend on.
            loss: scalar tensor, the mini-batch loss, or `None` where unknown.
        """
        raise NotImplementedError

    def clip(self, gradients):
        """The gradients after whichever of Keras' clippings is configured."""
        return self._clip_gradients(gradients)

    @property
    def weights(self):
        """The `keras.Variable`s that this optimizer was built for."""
        return list(self._trainable_variables)

    def scale_loss(self, loss):
        """Keras' hook for loss scaling, called with the loss of every step.

        It is the one public place inside `fit` that sees the mini-batch loss
        with the layers' regularisers, in the same graph as the update.
        """
        self._step_loss.put(loss)
        return super().scale_loss(loss)

    def _backend_apply_gradients(self, grads, trainable_variables):
        gradients = [None] * len(self.weights)
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            # Embeddings deliver `IndexedSlices`.
            dense = tf.convert_to_tensor(gradient)
            gradients[self._get_variable_index(variable)] = dense
        loss = self._step_loss.take()
        if self.gradient_accumulation_steps:
            self._accumulate(gradients, loss)
        else:
            self.update(gradients, loss)
        if self.use_ema:
            self._update_model_variables_moving_average(self._trainable_variables)

    def _accumulate(self, gradients, loss):
        count = self.gradient_accumulation_steps
        known = [i for i, g in enumerate(gradients) if g is not None]
        sums = [self._accumulated_gradients[i] for i in known]
        loss = tf.cast(float("nan") if loss is None else loss, "float64")

        def update():
            means = list(gradients)
            for i, total in zip(known, sums, strict=True):
                means[i] = (total + gradients[i]) / count
            self.update(means, (self._accumulated_loss + loss) / count)
            self._backend_reset_gradient_accumulators()
            self._accumulated_loss.assign(0.0)

        def accumulate():
            for i, total in zip(known, sums, strict=True):
                total.assign_add(gradients[i])
            self._accumulated_loss.assign_add(loss)

        last = (self._iterations + 1) % count == 0
        keras.ops.cond(last, update, accumulate)


class _StepLoss:
    """Carries the loss from `scale_loss` to the update of the same step."""

    def __init__(self):
        self._loss = None

    def put(self, loss):
        self._loss = loss

    def take(self):
        """The loss, if it is a tensor that the current graph can use."""
        loss, self._loss = self._loss, None
        if loss is None or not tf.is_symbolic_tensor(loss):
            return loss
        graph = tf.compat.v1.get_default_graph()
        while graph is not loss.graph:
            # The branch of a `tf.cond` is a graph inside the step's graph.
            graph = getattr(graph, "outer_graph", None)
            if graph is None:
                return None
        return loss


def learning_rate_schedule(optimizer):
    """The schedule or callable that sets the learning rate; `None` for a number."""
    source = optimizer._learning_rate
    return None if isinstance(source, keras.Variable) else source


def pass_loss_through(loss_scale_optimizer):
    """Lets the inner optimizer see the unscaled loss too.

    `LossScaleOptimizer.scale_loss` does not call the inner optimizer's hook, so
    under mixed_float16 the loss would be missing from the record.
    """
    inner = loss_scale_optimizer.inner_optimizer
    scale = type(loss_scale_optimizer).scale_loss

    def scale_loss(loss):
        inner.scale_loss(loss)
        return scale(loss_scale_optimizer, loss)

    loss_scale_optimizer.scale_loss = scale_loss


def built_weights(optimizer):
    """The `keras.Variable`s that any Keras optimizer was built for."""
    return list(optimizer._trainable_variables)


def compiled_loss(model):
    """What `compile` made of the loss: another object each time."""
    return model._compile_loss


def takes_training(model):
    """Whether `model` can be called with `training=`."""
    return model._call_has_training_arg


def build(model, batch_spec):
    """Builds a compiled model, its loss and its metrics, but not its optimizer.

    Args:
        model: A compiled `keras.Model`.
        batch_spec: `(x, y[, sample_weight])` of `tf.TensorSpec`.
    """
    # Keras would build the optimizer as well, which may refuse the strategy; a
    # gradient does not depend on it.
    optimizer = model.optimizer
    with model.distribute_strategy.scope(), DotNotTrackScope():
        model.optimizer = None
        try:
            model._symbolic_build(data_batch=batch_spec)
        finally:
            model.optimizer = optimizer


class LossPart(NamedTuple):
    """One loss of a compiled model over one batch, before division."""

    name: str
    weight: float
    numerator: tf.Tensor
    denominator: tf.Tensor
    per_example: int | None
    """The denominator over the examples where that is a constant, else `None`."""


def loss_parts(model, y, y_pred, sample_weight):
    """Numerators and denominators of every loss of a compiled model.

    Keras returns means only, and divides by other counts where there are masks. Its
    container of losses matches labels with outputs; here each loss inside it is made
    to leave its parts behind while the container runs.

    Returns:
        List of `LossPart`.

    Raises:
        ValueError: If a loss is not a mean over examples.
    """
    container = model._compile_loss
    originals = container._flat_losses
    parts = []
    try:
        container._flat_losses = [
            original._replace(loss=_Dividing(original, parts))
            for original in originals
        ]
        container(y, y_pred, sample_weight)
    finally:
        container._flat_losses = originals
    return parts


class _Dividing:
    """Stands for one loss and takes its mean apart."""

    def __init__(self, original, parts):
        loss = original.loss
        reduction = getattr(loss, "reduction", None)
        mean = reduction in ("sum_over_batch_size", "mean", "mean_with_sample_weight")
        if not mean or type(loss).__call__ is not keras.losses.Loss.__call__:
            raise ValueError(
                "Each loss must be a mean over the examples: a `keras.losses.Loss` "
                'with `reduction="sum_over_batch_size"` or '
                '`"mean_with_sample_weight"`, or a function with one value per '
                f"example. Received: loss {original.name!r} of {type(loss).__name__} "
                f"with reduction={reduction!r}"
            )
        self._original = original
        self._parts = parts

    def __call__(self, y_true, y_pred, sample_weight=None):
        loss, weight = self._original.loss, self._original.loss_weights
        total = _Shadow(loss, "sum")
        numerator = total(y_true, y_pred, sample_weight)
        weights = sample_weight
        if loss.reduction != "mean_with_sample_weight":
            weights = None
        # Of a loss that is 1 everywhere, Keras' sum over Keras' mean is what Keras
        # divides by, whatever the masks.
        count = _Shadow(loss, "sum", ones=True)(y_true, y_pred, weights)
        mean = _Shadow(loss, loss.reduction, ones=True)(y_true, y_pred, weights)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        per_example = None
        if weights is None and not total.masked and total.inner.is_fully_defined():
            per_example = total.inner.num_elements()
        part = LossPart(
            name=self._original.name,
            weight=1.0 if weight is None else weight,
            numerator=numerator,
            denominator=tf.math.divide_no_nan(count, mean * replicas),
            per_example=per_example,
        )
        self._parts.append(part)
        return numerator


class _Shadow(keras.losses.Loss):
    """A loss with another reduction, or with ones for its values."""

    def __init__(self, loss, reduction, ones=False):
        super().__init__(name="shadow", reduction=reduction, dtype=loss.dtype)
        self._loss = loss
        self._ones = ones
        self.masked = False

    def __call__(self, y_true, y_pred, sample_weight=None):
        self.masked |= get_keras_mask(y_pred) is not None
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true, y_pred):
        values = self._loss.call(y_true, y_pred)
        if values.shape.rank == 0:
            raise ValueError(
                "Each loss must have one value per example, which makes it a mean "
                f"over the examples. Received: loss {self._loss.name!r} with a scalar"
            )
        self.inner = values.shape[1:]
        mask = get_keras_mask(values)
        if self._ones:
            values = tf.ones_like(values)
        if mask is not None:
            self.masked = True
            set_keras_mask(values, mask)
        return values


def activity_losses(model):
    """The losses of activity regularisers in the model's last call.

    Keras divides each by the number of examples of the batch, so they are means.

    Raises:
        ValueError: If a layer called `add_loss`, whose meaning is unknown.
    """
    losses = []
    for layer in model._flatten_layers():
        own = layer._get_own_losses()
        if own and layer.activity_regularizer is None:
            raise ValueError(
                "Each loss must be a mean over the examples: what a layer gives to "
                "`add_loss` is not known to be one; an `activity_regularizer` is. "
                f"Received: a loss added by layer {layer.name!r}"
            )
        losses.extend(own)
    return losses
