"""Optimizers that see a whole step, and what Keras hides of the others."""

import inspect

import keras
import tensorflow as tf

from keras_fdr._compat.replicas import ReplicaSteps, reduce_over_replicas


class EffectiveGradientOptimizer(keras.optimizers.Optimizer):
    """Hands a subclass the gradients of all weights of one update at once.

    Keras calls `update_step` once a variable, so no public hook sees a whole
    step. `_backend_apply_gradients` does, and it is also where Keras accumulates
    gradients, clips them and keeps the moving average of the weights. This class
    keeps those three as Keras has them and calls `update` in between.

    Under several replicas Keras clips and accumulates each replica's gradient by
    itself, and adds means over unequal shares with equal weights. Here the gradients
    are first reduced to that of the global batch; the step that follows is that of one
    device, run once on each device that holds the weights.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._replica_steps = ReplicaSteps()

    def build(self, variables):
        """Creates the slots; `variables` is the list of trainable weights."""
        super().build(variables)
        if self.gradient_accumulation_steps:
            self._accumulated_loss = self.add_variable(
                shape=(), dtype="float64", name="accumulated_loss"
            )

    def update(self, gradients, loss):
        """Applies one update, to the copy of the weights on one device.

        Args:
            gradients: list with one entry per entry of `weights`: a dense tensor,
                of the global batch, averaged over accumulated batches, unscaled and
                not yet clipped; or `None` for a weight that the loss does not depend
                on.
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

    def mean_over(self, examples):
        """Says how the losses of the replicas make up that of the global batch.

        To be called in the step of each replica, before `apply`. `FDRCallback` does it
        in `fit`. Needed under more than one replica only.

        Args:
            examples: Scalar tensor: the loss is 1/R of the mean over this many
                examples, as Keras' losses are, and shares may be unequal. `None`: the
                losses of all replicas add up to that of the global batch, as those of
                `tf.nn.compute_average_loss` do.
        """
        self._replica_steps.put(announced=True, examples=examples)

    def scale_loss(self, loss):
        """Keras' hook for loss scaling, called with the loss of every step.

        It is the one public place inside `fit` that sees the mini-batch loss
        with the layers' regularisers, in the same graph as the update.
        """
        self._replica_steps.put(loss=loss)
        return super().scale_loss(loss)

    def reduce(self, gradients):
        """The gradients of the global batch; `apply` expects them in this step then.

        Args:
            gradients: list of this replica's gradients, `None` where there is none.
        """
        step = self._replica_steps.take()
        gradients, loss = reduce_over_replicas(gradients, step)
        self._replica_steps.put(loss=loss, reduced=True)
        return gradients

    def _backend_apply_gradients(self, grads, trainable_variables):
        gradients = [None] * len(self.weights)
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            gradients[self._get_variable_index(variable)] = gradient
        step = self._replica_steps.take()
        gradients, loss = reduce_over_replicas(gradients, step)

        def on_each_device(strategy, gradients, loss):
            strategy.extended.update(
                self.weights[0].value,
                lambda _, *reduced: self._step(*reduced),
                args=(gradients, loss),
                group=False,
            )

        # In its step a device reads and writes its own copy of every variable.
        tf.__internal__.distribute.interim.maybe_merge_call(
            on_each_device, tf.distribute.get_strategy(), gradients, loss
        )

    def _step(self, gradients, loss):
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


def called_by_set_state_tree():
    """Whether `keras.Model.set_state_tree` asks for the variables of an optimizer.

    There is no hook for it: it assigns `optimizer.variables` one by one. To be called
    from the property; a `LossScaleOptimizer` may lie between.
    """
    frame = inspect.currentframe()
    for _ in range(3):
        frame = frame and frame.f_back
        if frame is not None and frame.f_code.co_name == "set_state_tree":
            return True
    return False


def learning_rate_schedule(optimizer):
    """The schedule or callable that sets the learning rate; `None` for a number."""
    source = optimizer._learning_rate
    return None if isinstance(source, keras.Variable) else source


def open_loss_scaling(loss_scale_optimizer):
    """Lets the inner optimizer see the unscaled loss, and all replicas' gradients.

    `LossScaleOptimizer.scale_loss` does not call the inner optimizer's hook, so
    under mixed_float16 the loss would be missing from the record. Of several replicas
    it asks the first alone whether its gradients are finite, so the infinite gradient
    of another would reach the weights: here they are reduced before it looks.
    """
    inner = loss_scale_optimizer.inner_optimizer
    stock = type(loss_scale_optimizer)

    def scale_loss(loss):
        inner.scale_loss(loss)
        return stock.scale_loss(loss_scale_optimizer, loss)

    def apply(grads, trainable_variables=None):
        grads = inner.reduce(list(grads))
        return stock.apply(loss_scale_optimizer, grads, trainable_variables)

    loss_scale_optimizer.scale_loss = scale_loss
    loss_scale_optimizer.apply = apply


def built_weights(optimizer):
    """The `keras.Variable`s that any Keras optimizer was built for."""
    return list(optimizer._trainable_variables)
