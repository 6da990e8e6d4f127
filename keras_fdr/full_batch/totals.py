"""Sums over batches and replicas that stay on the device."""

from typing import Any

import tensorflow as tf


class Totals:
    """Adds up values batch after batch, separately on each replica.

    The variables are made when values are first added, in the structure that these
    have. All methods but `clear` are for use inside a `tf.function`.

    Args:
        strategy: The `tf.distribute.Strategy` of the model.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy
        self.variables: list[tf.Variable] = []
        self._template: Any = None

    def add(self, values: Any) -> None:
        """Adds the values of one batch.

        Args:
            values: (Nested) values of the replicas, as `strategy.run` returns them.
        """
        flat = tf.nest.flatten(values)
        if self._template is None:
            self._template = values
            with tf.init_scope(), self._strategy.scope():
                self.variables = [self._new(value) for value in flat]
        self._strategy.run(_add_each, args=(self.variables, flat))

    def clear(self) -> None:
        """Sets all totals to 0."""
        for total in self.variables:
            total.assign(tf.zeros_like(total))

    def read(self) -> Any:
        """The totals over all replicas, in the structure of the values."""
        totals = self._strategy.run(_read_each, args=(self.variables,))
        totals = [self._strategy.reduce("SUM", total, axis=None) for total in totals]
        return tf.nest.pack_sequence_as(self._template, totals)

    def _new(self, value: Any) -> tf.Variable:
        # Each replica adds to a separate copy.
        local = self._strategy.experimental_local_results(value)[0]
        return tf.Variable(
            tf.zeros(local.shape, local.dtype),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )


def _add_each(totals: list[tf.Variable], values: list[Any]) -> None:
    for total, value in zip(totals, values, strict=True):
        total.assign_add(value)


def _read_each(totals: list[tf.Variable]) -> list[Any]:
    return [tf.convert_to_tensor(total) for total in totals]
