"""The state of a run that the optimizer holds, and that every checkpoint carries."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_fdr import _compat
from keras_fdr.notices import notice
from keras_fdr.observables.layer import FDRObservables
from keras_fdr.observables.sealing import seal, weights_unchanged
from keras_fdr.observables.weights_state import WeightsState
from keras_fdr.optimizer.arguments import check_weights
from keras_fdr.optimizer.cut_table import CutTable
from keras_fdr.optimizer.decay_state import DecayState
from keras_fdr.optimizer.global_batch import EffectiveGradientOptimizer
from keras_fdr.optimizer.resume_point import ResumePoint
from keras_fdr.saving import SavedState


class RunState(SavedState, EffectiveGradientOptimizer):
    """An optimizer that holds velocities, the record, the cuts and the resume point.

    A subclass has the properties `momentum` and `dampening`.

    Args:
        observables: The `FDRObservables` that measures the steps. Defaults to
            one with default arguments.
        **kwargs: Arguments of every Keras optimizer.
    """

    def __init__(
        self, observables: FDRObservables | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._slots: list[keras.Variable | None] = []
        self.observables = observables or FDRObservables(name="observables")
        self.cut_table = CutTable(name="cut_table")
        self.progress = ResumePoint(name="progress")
        self.final_decay = DecayState(name="final_decay")

    @property
    def variables(self) -> list[keras.Variable]:
        """List of `keras.Variable`, without those of the record and of the cuts."""
        if _compat.called_by_set_state_tree():
            notice(
                "A state tree has the optimizer's own variables only. The record and "
                "the cuts of the run are not in it, so those of this optimizer do not "
                "change. To load them too, use `save_weights` and `load_weights` with "
                "a `.weights.h5` file, or a `.keras` file."
            )
        return super().variables

    @property
    def velocities(self) -> list[keras.Variable]:
        """List of `keras.Variable`: v(t) of each weight. It is empty if μ = 0."""
        return [slot for slot in self._slots if slot is not None]

    def seal(self) -> None:
        """Remembers weights and velocities, to notice if anything else changes them."""
        seal(self.observables, self._weights_state())

    def weights_unchanged(self) -> bool:
        """Whether only steps have changed weights and velocities since `seal`."""
        return weights_unchanged(self.observables, self._weights_state())

    def _weights_state(self) -> WeightsState:
        return self.observables.weights_state(
            self._weight_values(),
            self._slot_values(),
            momentum=self.momentum,
            dampening=self.dampening,
        )

    def _weight_values(self) -> list[tf.Tensor]:
        return [tf.convert_to_tensor(w.value) for w in self.weights]

    def _slot_values(self) -> list[tf.Tensor | None]:
        return [
            None if v is None else tf.convert_to_tensor(v.value) for v in self._slots
        ]

    def reset_velocities(self) -> None:
        """Sets every velocity to 0 and t = 0, as the paper does between runs."""
        for velocity in self.velocities:
            velocity.assign(keras.ops.zeros_like(velocity))
        self.observables.reset()

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates velocities and record. Keras calls this before the first step.

        Args:
            variables: List of trainable `keras.Variable`.

        Raises:
            ValueError: If the relations cannot hold for one of the variables, or
                under `ParameterServerStrategy`.
        """
        if self.built:
            return
        check_weights(variables)
        self.observables.claim(self)
        self.observables.leave_out(
            i
            for i, v in enumerate(variables)
            if getattr(v, "overwrite_with_gradient", False)
        )
        # `fit` builds inside the trace of the first step.
        with _compat.variables_outside_of_traces():
            super().build(variables)
            if self.momentum:
                self._slots = self.add_optimizer_variables(variables, "velocity")
            # When a model is loaded, Keras has already built this layer.
            if not self.observables.built:
                self.observables.build([v.shape for v in variables])
            if not self.observables.has_names():
                self.observables.name_weights([v.path for v in variables])
            self.cut_table.build()
            self.progress.build()
        self.load_waiting()
