"""Private parts of optimizers, and an optimizer that sees a whole step."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf


class WholeStepOptimizer(keras.optimizers.Optimizer):
    """Gives public names to what Keras' optimizer keeps private.

    Keras calls `update_step` once for each variable, so no public hook sees a whole
    step. `_backend_apply_gradients` does. It is also where Keras accumulates gradients,
    clips them and keeps the moving average of the weights, so a subclass must do these
    three with the methods below.
    """

    def apply_whole_step(self, gradients: list[Any]) -> None:
        """Applies one step. `apply` calls this in replica context.

        Args:
            gradients: List with one entry for each of `weights`: the gradient of this
                replica, or `None`.
        """
        raise NotImplementedError

    @property
    def weights(self) -> list[keras.Variable]:
        """The `keras.Variable`s that this optimizer was built for."""
        return list(self._trainable_variables)

    @property
    def batch_count(self) -> keras.Variable:
        """The variable that counts batches, while `iterations` counts updates."""
        return self._iterations

    @property
    def gradient_sums(self) -> list[keras.Variable]:
        """The variables in which gradients are accumulated, one per weight."""
        return self._accumulated_gradients

    def clear_gradient_sums(self) -> None:
        """Sets the accumulated gradients to 0."""
        self._backend_reset_gradient_accumulators()

    def clip(self, gradients: list[Any]) -> list[Any]:
        """The gradients after the configured clipping of Keras."""
        return self._clip_gradients(gradients)

    def average_weights(self) -> None:
        """Updates the moving average of the weights for `use_ema`."""
        self._update_model_variables_moving_average(self._trainable_variables)

    def _backend_apply_gradients(
        self, grads: Sequence[Any], trainable_variables: Sequence[keras.Variable]
    ) -> None:
        gradients: list[Any] = [None] * len(self.weights)
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            gradients[self._get_variable_index(variable)] = gradient
        self.apply_whole_step(gradients)


def merge_call(function: Callable[..., Any], *arguments: Any) -> None:
    """Calls `function(strategy, *arguments)` once for all replicas."""
    tf.__internal__.distribute.interim.maybe_merge_call(
        function, tf.distribute.get_strategy(), *arguments
    )


def learning_rate_schedule(optimizer: Any) -> Any:
    """The schedule or callable that sets the learning rate. `None` for a number."""
    source = optimizer._learning_rate
    return None if isinstance(source, keras.Variable) else source


def open_loss_scaling(loss_scale_optimizer: keras.optimizers.Optimizer) -> None:
    """Shows the inner optimizer the unscaled loss and the gradients of all replicas.

    `LossScaleOptimizer.scale_loss` does not call the hook of the inner optimizer. So
    under mixed_float16 the loss would be missing from the record. With several replicas
    it checks only whether the gradients of the first are finite. So an infinite
    gradient of another would reach the weights. Here gradients are reduced before this
    check.
    """
    inner = loss_scale_optimizer.inner_optimizer
    stock = type(loss_scale_optimizer)

    def scale_loss(loss: Any) -> Any:
        inner.scale_loss(loss)
        return stock.scale_loss(loss_scale_optimizer, loss)

    def apply(grads: Sequence[Any], trainable_variables: Any = None) -> None:
        grads = inner.reduce(list(grads))
        return stock.apply(loss_scale_optimizer, grads, trainable_variables)

    loss_scale_optimizer.scale_loss = scale_loss
    loss_scale_optimizer.apply = apply


def built_weights(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """The `keras.Variable`s that any Keras optimizer was built for."""
    return list(optimizer._trainable_variables)


def called_by_set_state_tree() -> bool:
    """Whether `keras.Model.set_state_tree` asks for the variables of an optimizer.

    Keras has no hook for this: it assigns `optimizer.variables` one by one. So the
    property must call this function. A `LossScaleOptimizer` may be in between.
    """
    frame = inspect.currentframe()
    for _ in range(3):
        frame = frame and frame.f_back
        if frame is not None and frame.f_code.co_name == "set_state_tree":
            return True
    return False
