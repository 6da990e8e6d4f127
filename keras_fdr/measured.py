"""A Keras optimizer whose steps are measured."""

from typing import Any, TypeAlias

import keras
import tensorflow as tf

from keras_fdr.attach import measured_weights
from keras_fdr.observables.displacement import Displacements
from keras_fdr.observables.sealing import seal, weights_unchanged
from keras_fdr.observables.weights_state import WeightsState
from keras_fdr.optimizer.cut_table import CutTable
from keras_fdr.optimizer.decay_state import DecayState
from keras_fdr.optimizer.resume_point import ResumePoint
from keras_fdr.optimizer.sgd import FDRSGD


class MeasuredOptimizer:
    """A Keras optimizer and what measures its steps.

    The record, the table of cuts and the resume point are attributes of the optimizer
    itself, so that every file and checkpoint of Keras carries them.

    Example:

    >>> import keras, keras_fdr
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer="adam", loss="mse")
    >>> measured = keras_fdr.measure(model)
    >>> measured.optimizer is model.optimizer
    True
    >>> measured.observables.record().steps
    0

    Attributes:
        optimizer: The `keras.optimizers.Optimizer`.
        observables: The record, see `FDRObservables.record` and
            `FDRObservables.record_by_variable`.
    """

    # FDR1 needs no L2 term of the optimizer's own here.
    l2 = 0.0

    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        self.optimizer = optimizer
        self.observables: Displacements = optimizer.observables
        self.cut_table: CutTable = optimizer.cut_table
        self.final_decay: DecayState = optimizer.final_decay
        self.progress: ResumePoint = optimizer.progress

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)

    @property
    def has_several_rates(self) -> bool:
        """Whether it is a `MultiOptimizer`, whose parts have a rate each."""
        return hasattr(self.optimizer, "optimizers")

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the optimizer."""
        return self.optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self.optimizer.learning_rate = value

    def seal(self) -> None:
        """Remembers the weights, to notice who else changes them."""
        seal(self.observables, self._weights_state())

    def weights_unchanged(self) -> bool:
        """Whether only steps have changed the weights since `seal`."""
        return weights_unchanged(self.observables, self._weights_state())

    def _weights_state(self) -> WeightsState:
        theta = [tf.convert_to_tensor(w) for w in measured_weights(self.optimizer)]
        return self.observables.weights_state(theta)


Measured: TypeAlias = MeasuredOptimizer | FDRSGD


def memory_of(optimizer: keras.optimizers.Optimizer) -> float:
    """β: the memory of the optimizer's first moment, a float.

    Args:
        optimizer: A `keras.optimizers.Optimizer`.
    """
    parts = getattr(optimizer, "optimizers", None)
    if parts:
        memories = {memory_of(part) for part in parts}
        return memories.pop() if len(memories) == 1 else 0.0
    for name in ("momentum", "beta_1"):
        value = getattr(optimizer, name, None)
        if isinstance(value, (int, float)) and 0 <= value < 1:
            return float(value)
    return 0.0
