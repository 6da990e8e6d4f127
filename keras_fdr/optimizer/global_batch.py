"""The gradient of a whole step: of all replicas and all accumulated batches."""

import keras
import tensorflow as tf

from keras_fdr import _compat
from keras_fdr.distribution.reduction import ReplicaSteps, reduce_over_replicas
from keras_fdr.model_checks import refuse_assignment


class EffectiveGradientOptimizer(_compat.WholeStepOptimizer):
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
        self._scan = _compat.AssignmentScan()

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

    def apply(self, grads, trainable_variables=None):
        """One step: Keras' own method, which changes nothing where there is no batch.

        At the end of data of unknown length Keras starts one step too many. What does
        not need the batch, as the count of steps, would happen before that step fails.

        Args:
            grads: list of this replica's gradients, `None` where there is none.
            trainable_variables: list of the weights; may be left out after `build`.

        Raises:
            ValueError: If a layer assigns one of the weights in the same step.
        """
        weights = self.weights if self.built else trainable_variables
        refuse_assignment(self._scan.find(weights))
        try:
            grads = self.reduce(list(grads))
            with tf.control_dependencies(self._from_batch(grads)):
                super().apply(grads, trainable_variables)
        finally:
            # A step that was refused must not be taken for part of the next.
            self._replica_steps.take()
        self._scan.end_step()

    def _from_batch(self, gradients):
        known = [*gradients, self._replica_steps.look().loss]
        return [tensor for tensor in known if tf.is_tensor(tensor)]

    def apply_whole_step(self, gradients):
        """One step, with the gradient of the global batch."""
        loss = self._replica_steps.take().loss

        def on_each_device(strategy, gradients, loss):
            strategy.extended.update(
                self.weights[0].value,
                lambda _, *reduced: self._step(*reduced),
                args=(gradients, loss),
                group=False,
            )

        # In its step a device reads and writes its own copy of every variable.
        _compat.merge_call(on_each_device, gradients, loss)

    def _step(self, gradients, loss):
        if self.gradient_accumulation_steps:
            self._accumulate(gradients, loss)
        else:
            self.update(gradients, loss)
        if self.use_ema:
            self.average_weights()

    def _accumulate(self, gradients, loss):
        count = self.gradient_accumulation_steps
        known = [i for i, g in enumerate(gradients) if g is not None]
        sums = [self.gradient_sums[i] for i in known]
        loss = tf.cast(float("nan") if loss is None else loss, "float64")

        def update():
            means = list(gradients)
            for i, total in zip(known, sums, strict=True):
                means[i] = (total + gradients[i]) / count
            self.update(means, (self._accumulated_loss + loss) / count)
            self.clear_gradient_sums()
            self._accumulated_loss.assign(0.0)

        def accumulate():
            for i, total in zip(known, sums, strict=True):
                total.assign_add(gradients[i])
            self._accumulated_loss.assign_add(loss)

        last = (self.batch_count + 1) % count == 0
        keras.ops.cond(last, update, accumulate)
