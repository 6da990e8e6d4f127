"""The epochs of the final decay of the learning rate, in variables."""

from typing import NamedTuple

import keras

from keras_fdr.state_layer import StateLayer, StateVariable


class Span(NamedTuple):
    """The epochs of a final decay, and the learning rate that it starts from."""

    first_epoch: int
    epochs: int
    learning_rate: float

    @property
    def end(self) -> int:
        """The epoch after its last one, counted from 0."""
        return self.first_epoch + self.epochs


class DecayState(StateLayer):
    """The span of the final decay, which every checkpoint of the model carries.

    It has variables only if `FDRCallback` has a `final_decay`. So other runs, and the
    files of older code, have nothing to restore here.
    """

    may_be_missing = True

    epochs_of_decay: keras.Variable
    start_rate: keras.Variable

    def state_variables(self) -> list[StateVariable]:
        """The span. Its number of epochs is 0 before the decay has begun."""
        return [
            StateVariable("epochs_of_decay", "epochs", (2,), dtype="int64"),
            StateVariable("start_rate", "start_rate"),
        ]

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
