"""Optimizers that see a whole step, and what Keras hides of the others."""

import keras
import tensorflow as tf


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
