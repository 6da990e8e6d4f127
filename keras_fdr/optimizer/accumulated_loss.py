"""The mean loss of the batches whose gradients are accumulated to one step."""

from typing import Any

import keras
import tensorflow as tf

from keras_fdr.saving import SavedState


def add_loss(total: keras.Variable, loss: tf.Tensor | None) -> None:
    """Adds the loss of a batch that does not end a step.

    Args:
        total: The variable that holds the sum.
        loss: Scalar tensor, or `None` if it is not known, which counts as NaN.
    """
    total.assign_add(_known(loss))


def mean_loss(total: keras.Variable, loss: tf.Tensor | None, count: int) -> tf.Tensor:
    """The mean loss of a step, with the batch that ends it. The sum is then 0 again.

    Args:
        total: The variable that holds the sum over the earlier batches of the step.
        loss: Scalar tensor, or `None` if it is not known, which counts as NaN.
        count: Integer, the batches of a step.

    Returns:
        Float64 scalar tensor.
    """
    mean = (tf.convert_to_tensor(total) + _known(loss)) / count
    total.assign(tf.zeros((), "float64"))
    return mean


def _known(loss: tf.Tensor | None) -> tf.Tensor:
    return tf.cast(float("nan") if loss is None else loss, "float64")


class AccumulatedLoss(SavedState, keras.layers.Layer):
    """The sum of losses of an unfinished step, for an optimizer that has no such sum.

    Every checkpoint of the model carries it. Files of older code do not have it.
    """

    may_be_missing = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trainable=False, dtype="float64", autocast=False, **kwargs)

    def build(self, input_shape: Any = None) -> None:
        """Creates the variable. It does not depend on any input."""
        del input_shape
        self.total = self.add_weight(
            shape=(),
            initializer="zeros",
            name="total",
            trainable=False,
            aggregation="only_first_replica",
        )
        self.load_waiting()

    def saved_settings(self) -> dict[str, Any]:
        """This is empty, because every run has the same variable."""
        return {}

    def load_nothing(self) -> None:
        """A file without this layer has no unfinished step."""
        self.total.assign(0.0)
