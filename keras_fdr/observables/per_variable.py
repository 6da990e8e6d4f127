"""The record of each weight tensor."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_fdr.observables.blocks import BlockSums
from keras_fdr.record import VARIABLE_ROW, Record

# O_L, O_R and whether there was a gradient.
_COLUMNS = len(VARIABLE_ROW) + 1

_NAMES = "names"


class VariableSums(BlockSums):
    """Sums of O_L and O_R of each weight tensor, in blocks like those of the total.

    A tensor without a gradient does not move, so its row of that step is 0: the rows
    still sum to the total, and each tensor obeys the exact identity separately.

    Args:
        capacity: even integer, at least 2. The number of blocks.
    """

    def __init__(self, capacity: int, **kwargs: Any) -> None:
        # `count_weights` sets the width. The layer exists earlier so that state can be
        # loaded before `build`.
        super().__init__(capacity, 0, **kwargs)
        self.weights_count = 0
        self.names: tuple[str, ...] = ()

    def count_weights(self, weights: int) -> None:
        """Sets the number of weight tensors, an integer. It comes before `build`."""
        self.weights_count = weights
        self.width = _COLUMNS * weights

    def saved_settings(self) -> dict[str, Any]:
        """The capacity; the width is not known from the beginning."""
        return {"capacity": self.capacity}

    def save_own_variables(self, store: Any) -> None:
        """Also writes the names: a loaded model may give its weights other paths."""
        super().save_own_variables(store)
        store[_NAMES] = np.frombuffer(json.dumps(self.names).encode(), "uint8")

    def load_own_variables(self, store: Any) -> None:
        """Also reads the names, which files of earlier versions do not have."""
        values = {key: np.array(store[key]) for key in store.keys()}  # noqa: SIM118
        names = values.pop(_NAMES, None)
        super().load_own_variables(values)
        loaded = [] if names is None else json.loads(names.tobytes())
        # A state that was saved before it was built has none.
        if loaded:
            self.names = tuple(loaded)

    def add(
        self, known: list[int], dissipation: tf.Tensor, fluctuation: tf.Tensor
    ) -> None:
        """Adds one step. It must not be called when all blocks are full.

        Args:
            known: list of integers: the tensors that have a gradient.
            dissipation: float64 tensor of shape `(len(known),)`.
            fluctuation: float64 tensor of shape `(len(known),)`.
        """
        rows = tf.stack([dissipation, fluctuation, tf.ones_like(dissipation)], axis=1)
        if len(known) < self.weights_count:
            shape = (self.weights_count, _COLUMNS)
            rows = tf.scatter_nd([[i] for i in known], rows, shape)
        self(tf.reshape(rows, [self.width]))

    def split(
        self, sums: np.ndarray, names: Iterable[str], **shared: Any
    ) -> dict[str, Record]:
        """One `Record` for each tensor that had a gradient.

        Args:
            sums: array of shape `(blocks, width)`.
            names: list of strings, one for each tensor.
            **shared: `steps`, `block_length` and `learning_rate` of all records.

        Returns:
            Dictionary from name to `Record`.
        """
        sums = sums.reshape(len(sums), self.weights_count, _COLUMNS)
        return {
            name: Record(sums[:, i, :-1], names=VARIABLE_ROW, **shared)
            for i, name in enumerate(names)
            if sums[:, i, -1].any()
        }


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names, with the position added to those that occur more than once."""
    count = Counter(names)
    return tuple(
        f"{name}#{i}" if count[name] > 1 else name for i, name in enumerate(names)
    )
