"""The cuts of the learning rate, in a table of fixed size."""

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from keras_fdr.state_layer import StateLayer, StateVariable


@dataclass(frozen=True)
class Cut:
    """One cut of the learning rate by `FDRCallback`.

    Args:
        epoch: Integer, the epoch at whose end the cut was made, counted from 1 as
            the lines that Keras prints.
        old_learning_rate: Float, η before the cut.
        new_learning_rate: Float, η after it.
        ratio: Float, Ō_L/Ō_R at the cut.
    """

    epoch: int
    old_learning_rate: float
    new_learning_rate: float
    ratio: float

    @property
    def reason(self) -> str:
        """A sentence that says what was found."""
        return (
            f"Epoch {self.epoch}: dissipation over fluctuation came to "
            f"{self.ratio:.4f}, so the learning rate was cut from "
            f"{self.old_learning_rate:.4g} to {self.new_learning_rate:.4g}."
        )


class CutTable(StateLayer):
    """The newest cuts, in variables that every checkpoint of the model carries.

    Args:
        size: Integer, how many of the newest cuts are kept.
    """

    table: keras.Variable
    count: keras.Variable

    def __init__(self, size: int = 1024, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size

    def state_variables(self) -> list[StateVariable]:
        """The rows, and how many cuts there were."""
        return [
            StateVariable("table", "cuts", (self.size, 4)),
            StateVariable("count", "count", dtype="int64"),
        ]

    def saved_settings(self) -> dict[str, Any]:
        """The size of the table."""
        return {"size": self.size}

    def load_nothing(self) -> None:
        """A file without this layer has no cuts."""
        self.count.assign(0)

    def append(self, cut: Cut) -> None:
        """Adds a `Cut`. If the table is full, it replaces the oldest one."""
        # Files have epochs that are counted from 0.
        row = [cut.epoch - 1, cut.old_learning_rate, cut.new_learning_rate, cut.ratio]
        table = tf.tensor_scatter_nd_update(
            self.table, [[int(self.count.numpy()) % self.size]], [row]
        )
        self.table.assign(table)
        self.count.assign_add(1)

    def read(self) -> list[Cut]:
        """The cuts, oldest first, as a list of `Cut`."""
        if not self.built:
            return []
        count, table = int(self.count.numpy()), self.table.numpy()
        rows = (table[i % self.size] for i in range(max(0, count - self.size), count))
        return [Cut(int(epoch) + 1, *map(float, rest)) for epoch, *rest in rows]
