"""State that checks what it is loaded from, and may be loaded before it is built."""

import json
from typing import Any

import numpy as np
import tensorflow as tf

_SETTINGS = "settings"

# For the type checker: a layer or an optimizer follows in the order of bases.
_Saveable: Any = object


class SavedState(_Saveable):
    """Mixin of the optimizer and its layers, which hold the state of a run.

    Keras saves variables by position. So a file of another optimizer may fit by
    accident: the slots of `keras.optimizers.SGD` are no velocities. Or it does not
    fit, and Keras only warns. Therefore the settings that decide which variables
    there are, and what they mean, are saved beside them and compared.

    Keras also loads nothing into what is not built yet, although its guide says
    to compile, then load, then fit. Here the values wait for `build`.
    """

    # Parts that were added later say so here, since older files lack them.
    may_be_missing = False

    _waiting = None
    is_expected = False

    def saved_settings(self) -> dict[str, Any]:
        """Dictionary of numbers, strings and booleans: what a file must agree in."""
        raise NotImplementedError

    def save_own_variables(self, store: Any) -> None:
        """Called by Keras: writes variables and settings."""
        super().save_own_variables(store)
        settings = {"built": self.built, **self.saved_settings()}
        store[_SETTINGS] = np.frombuffer(json.dumps(settings).encode(), "uint8")

    def load_own_variables(self, store: Any) -> None:
        """Called by Keras: reads variables, now or when they are built.

        Raises:
            ValueError: If the file is of other settings, or of something else.
        """
        # Keras' stores have keys, but cannot be iterated over.
        keys = store.keys()
        values = {key: np.array(store[key]) for key in keys}
        expected, self.is_expected = self.is_expected, False
        self._expect_parts(False)
        if not values and (self.may_be_missing or not (self.built or expected)):
            # The file has only model weights and this object has no state yet, or it
            # was written before this part existed: there is nothing to load.
            if self.built:
                self.load_nothing()
            return
        theirs = _settings_in(values)
        ours = self.saved_settings()
        if theirs is None:
            raise ValueError(
                self._rule() + f"Received: a file with {_what(values)} in that place"
            )
        saved_after_build = theirs.pop("built")
        if theirs != ours:
            differ = [key for key in ours if theirs.get(key) != ours[key]]
            raise ValueError(
                self._rule()
                + "Received: a file with "
                + ", ".join(f"{k}={theirs.get(k)} instead of {ours[k]}" for k in differ)
            )
        if not saved_after_build:
            return
        # Keras loads the parts of an object after the object itself.
        self._expect_parts(True)
        self._waiting = _Values(values)
        if self.built:
            self.load_waiting()

    def load_nothing(self) -> None:
        """Called for a file without this part: back to the state of a new object."""

    def load_waiting(self) -> None:
        """Assigns what was loaded before there were variables; ends `build`."""
        if self._waiting is None:
            return
        values, self._waiting = self._waiting.values, None
        shapes = [tuple(v.shape) for v in self.own_variables()]
        saved = [values[str(i)].shape for i in range(len(values))]
        if shapes != saved:
            raise ValueError(
                self._rule() + f"Received: a file with variables of the shapes {saved} "
                f"instead of {shapes}, hence of another model"
            )
        # `fit` builds inside the trace of the first step, where an assignment would
        # become part of every step, or of none.
        with tf.init_scope():
            super().load_own_variables(values)

    def own_variables(self) -> list[Any]:
        """List of `keras.Variable`: those that Keras saves under this object."""
        return self.variables

    def _expect_parts(self, expected: bool) -> None:
        for part in vars(self).values():
            if isinstance(part, SavedState):
                part.is_expected = expected

    def _rule(self) -> str:
        return (
            f"The state of {type(self).__name__} {self.name!r} can only be loaded from "
            "a file that was saved with the same optimizer, settings and model. (For "
            "the weights of the model alone, load them before `compile`, or with "
            "`skip_mismatch=True`.) "
        )


class _Values:
    """Hides a dictionary from Keras, which would track what is in it."""

    def __init__(self, values: dict[str, np.ndarray]) -> None:
        self.values = values


def _settings_in(values: dict[str, np.ndarray]) -> dict[str, Any] | None:
    settings = values.pop(_SETTINGS, None)
    return None if settings is None else json.loads(settings.tobytes())


def _what(values: dict[str, np.ndarray]) -> str:
    if not values:
        return "nothing"
    shapes = [values[key].shape for key in sorted(values, key=int)]
    return (
        f"variables of another optimizer, of the shapes {shapes}, (if it is a "
        "`LossScaleOptimizer`, set the policy `mixed_float16` before loading)"
    )
