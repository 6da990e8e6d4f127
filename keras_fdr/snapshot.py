"""Variables put back as they were."""

from collections.abc import Iterable

import keras
import tensorflow as tf


class State:
    """The values of variables, to restore bitwise.

    Args:
        variables: List of `keras.Variable`.
        strategy: The `tf.distribute.Strategy` that they were created in.
    """

    def __init__(
        self, variables: Iterable[keras.Variable], strategy: tf.distribute.Strategy
    ) -> None:
        # Each replica's own copy: metrics hold different numbers on each.
        self._components = [
            component
            for variable in variables
            for component in strategy.experimental_local_results(variable.value)
        ]
        self._values = [tf.identity(c) for c in self._components]

    def restore(self) -> None:
        """Assigns the values again."""
        for component, value in zip(self._components, self._values, strict=True):
            component.assign(value)
