"""The gradient of a whole step: of all replicas and all accumulated batches."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_fdr import _compat
from keras_fdr.distribution.reduction import ReplicaSteps, reduce_over_replicas
from keras_fdr.model_checks import refuse_assignment
from keras_fdr.optimizer.accumulated_loss import add_loss, mean_loss
from keras_fdr.sparse_rows import can_gather, with_unique_rows


class EffectiveGradientOptimizer(_compat.WholeStepOptimizer):
    """Calls `update` of a subclass with the gradients of all weights of one step.

    Keras also accumulates gradients, clips them and keeps the moving average of the
    weights in a step. This class does the same, and calls `update` in between.

    Under several replicas Keras clips and accumulates the gradient of each replica
    separately. It also adds means over unequal shares with equal weights. This class
    first reduces the gradients to that of the global batch. The step that follows is
    that of one device, and runs once on each device that holds the weights.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._replica_steps = ReplicaSteps()
        self._scan = _compat.AssignmentScan()

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the variables that accumulation and averages need.

        Args:
            variables: List of the trainable weights.
        """
        super().build(variables)
        if self.gradient_accumulation_steps:
            self._accumulated_loss = self.add_variable(
                shape=(), dtype="float64", name="accumulated_loss"
            )

    def update(self, gradients: list[tf.Tensor | None], loss: tf.Tensor | None) -> None:
        """Applies one update to the copy of the weights on one device.

        Args:
            gradients: List with one entry for each of `weights`. It is a tensor, the
                gradient of the global batch, averaged over accumulated batches,
                unscaled and not yet clipped. It is `None` for a weight that the loss
                does not depend on. If `moves_touched_rows_only`, it may be a
                `tf.IndexedSlices` that has each row at most once.
            loss: Scalar tensor, the mini-batch loss, or `None` if it is not known.
        """
        raise NotImplementedError

    def mean_over(self, examples: tf.Tensor | None) -> None:
        """Says how the losses of R replicas make up the loss of the global batch.

        Call this in the step of each replica, before `apply`. `FDRCallback` does it in
        `fit`. It is needed only if there is more than one replica.

        Args:
            examples: Scalar tensor or `None`. With a tensor, the loss is 1/R of the
                mean over this many examples, as the losses of Keras are. The shares of
                the replicas may be unequal. With `None`, the losses of all replicas add
                up to that of the global batch, as those of
                `tf.nn.compute_average_loss` do.
        """
        self._replica_steps.put(announced=True, examples=examples)

    def scale_loss(self, loss: tf.Tensor) -> tf.Tensor:
        """Scales the loss. Keras calls this with the loss of every step.

        It is the only public method inside `fit` that gets the mini-batch loss with the
        terms of the layers' regularizers, in the same graph as the update.

        Args:
            loss: Scalar tensor.
        """
        self._replica_steps.put(loss=loss)
        return super().scale_loss(loss)

    def reduce(self, gradients: list[Any]) -> list[tf.Tensor | None]:
        """Computes the gradients of the global batch.

        After this, `apply` expects these gradients in the same step.

        Args:
            gradients: List of the gradients of this replica, `None` where there is
                none.
        """
        return self._reduce([_dense(g) for g in gradients])

    def moves_touched_rows_only(self) -> bool:
        """Whether a step leaves rows without gradient as they are.

        If so, the gradient of an embedding need not be made dense.
        """
        return False

    def _reduce(self, gradients: list[Any]) -> list[Any]:
        step = self._replica_steps.take()
        gradients, loss = reduce_over_replicas(gradients, step)
        self._replica_steps.put(loss=loss, reduced=True)
        return gradients

    def apply(
        self,
        grads: Sequence[Any],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """Takes one step, as Keras does, but changes nothing if there is no batch.

        At the end of data of unknown length Keras starts one step without a batch. That
        step fails. Assignments that do not need the batch, such as the count of steps,
        would happen before it fails.

        Args:
            grads: List of the gradients of this replica, `None` where there is none.
            trainable_variables: List of the weights. It may be left out after `build`.

        Raises:
            ValueError: If a layer assigns one of the weights in the same step.
        """
        weights = self.weights if self.built else trainable_variables
        refuse_assignment(self._scan.find(weights or []))
        try:
            rows = self.moves_touched_rows_only() and can_gather()
            grads = self._reduce(
                [with_unique_rows(g) if rows else _dense(g) for g in grads]
            )
            with tf.control_dependencies(self._from_batch(grads)):
                super().apply(grads, trainable_variables)
        finally:
            # If this step was refused, the next must not use its loss.
            self._replica_steps.take()
        self._scan.end_step()

    def _from_batch(self, gradients: list[tf.Tensor | None]) -> list[tf.Tensor]:
        known = [*gradients, self._replica_steps.look().loss]
        return [tensor for tensor in known if tf.is_tensor(tensor)]

    def apply_whole_step(self, gradients: list[tf.Tensor | None]) -> None:
        """Takes one step on each device that holds the weights.

        Args:
            gradients: List of the gradients of the global batch.
        """
        loss = self._replica_steps.take().loss

        def on_each_device(strategy: Any, gradients: Any, loss: Any) -> None:
            strategy.extended.update(
                self.weights[0].value,
                lambda _, *reduced: self._step(*reduced),
                args=(gradients, loss),
                group=False,
            )

        # In this step a device reads and writes its own copy of every variable.
        _compat.merge_call(on_each_device, gradients, loss)

    def _step(self, gradients: list[tf.Tensor | None], loss: tf.Tensor | None) -> None:
        if self.gradient_accumulation_steps:
            self._accumulate(gradients, loss)
        else:
            self.update(gradients, loss)
        if self.use_ema:
            self.average_weights()

    def _accumulate(
        self, gradients: list[tf.Tensor | None], loss: tf.Tensor | None
    ) -> None:
        count = self.gradient_accumulation_steps
        known = [i for i, g in enumerate(gradients) if g is not None]
        sums = [self.gradient_sums[i] for i in known]

        def update() -> None:
            means = list(gradients)
            for i, total in zip(known, sums, strict=True):
                means[i] = (total + gradients[i]) / count
            self.update(means, mean_loss(self._accumulated_loss, loss, count))
            self.clear_gradient_sums()

        def accumulate() -> None:
            for i, total in zip(known, sums, strict=True):
                total.assign_add(gradients[i])
            add_loss(self._accumulated_loss, loss)

        last = (self.batch_count + 1) % count == 0
        keras.ops.cond(last, update, accumulate)


def _dense(gradient: Any) -> tf.Tensor | None:
    # Embeddings have `IndexedSlices` as gradients.
    return None if gradient is None else tf.convert_to_tensor(gradient)
