"""Restores variables to earlier values."""

from collections.abc import Iterable

import keras
import tensorflow as tf


class State:
    """The values of variables, which can be restored exactly.

    Args:
        variables: List of `keras.Variable`.
        strategy: The `tf.distribute.Strategy` in whose scope they were created.
    """

    def __init__(
        self, variables: Iterable[keras.Variable], strategy: tf.distribute.Strategy
    ) -> None:
        # Each replica has its own copy. Metrics have different numbers on each.
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
