"""The epochs of the final decay of the learning rate, in variables."""

from typing import Any, NamedTuple

import keras

from keras_fdr.saving import SavedState


class Span(NamedTuple):
    """The epochs of a final decay, and the learning rate that it starts from."""

    first_epoch: int
    epochs: int
    learning_rate: float

    @property
    def end(self) -> int:
        """The epoch after its last one, counted from 0."""
        return self.first_epoch + self.epochs


class DecayState(SavedState, keras.layers.Layer):
    """The span of the final decay, which every checkpoint of the model carries.

    It has variables only if `FDRCallback` has a `final_decay`. So other runs, and the
    files of older code, have nothing to restore here.
    """

    may_be_missing = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trainable=False, dtype="float64", autocast=False, **kwargs)

    def build(self, input_shape: Any = None) -> None:
        """Creates the variables. They do not depend on any input."""
        del input_shape
        once = {
            "trainable": False,
            "initializer": "zeros",
            "aggregation": "only_first_replica",
        }
        # The number of epochs is 0 before the decay has begun.
        self.epochs_of_decay = self.add_weight(
            shape=(2,), dtype="int64", name="epochs", **once
        )
        self.start_rate = self.add_weight(shape=(), name="start_rate", **once)
        self.load_waiting()

    def saved_settings(self) -> dict[str, Any]:
        """This is empty, because every run has the same variables."""
        return {}

    def load_nothing(self) -> None:
        """If a file has no such layer, no decay has begun."""
        self.write(None)

    def read(self) -> Span | None:
        """The `Span`, or `None` before the decay has begun."""
        first, epochs = map(int, self.epochs_of_decay.numpy())
        if epochs == 0:
            return None
        return Span(first, epochs, float(self.start_rate.numpy()))

    def write(self, span: Span | None) -> None:
        """Sets the `Span`. `None` means that the decay has not begun."""
        first, epochs, rate = span or (0, 0, 0.0)
        self.epochs_of_decay.assign([first, epochs])
        self.start_rate.assign(rate)
