"""The record of a run, as a layer whose variables every checkpoint carries."""

import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_fdr.observables.arguments import check_settings
from keras_fdr.observables.blocks import BlockSums
from keras_fdr.observables.ledger import Ledger
from keras_fdr.observables.per_variable import VariableSums, unique_names
from keras_fdr.observables.reading import read, values_of
from keras_fdr.record import FULL_BATCH_ROW, ROW, Record
from keras_fdr.saving import SavedState
from keras_fdr.sparse_rows import read_rows


class StoredRecord(SavedState, keras.layers.Layer):
    """Rows of FDR1's two sides, summed into blocks inside the compiled step.

    Subclasses make the rows: `FDRObservables` from gradients and velocities,
    `Displacements` from what any optimizer did to the weights.

    Rows are kept in the units of η₀, the learning rate that the record began with: a
    row of a step at η(t) is multiplied by η(t)/η₀. So the exact identity of FDR1 holds
    for their sums at any schedule. At a constant rate nothing is multiplied.

    Args:
        capacity: Even integer, at least 2.
        center: `None` or `"initial"`.
        per_variable: Boolean.
        **kwargs: `name` of the layer.
    """

    names = ROW

    def __init__(
        self,
        capacity: int = 1024,
        center: str | None = None,
        per_variable: bool = False,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("dtype", keras.config.floatx())
        super().__init__(trainable=False, autocast=False, **kwargs)
        check_settings(capacity, center, per_variable)
        self.capacity = capacity
        self.center = center
        self.per_variable = per_variable
        self.blocks = BlockSums(capacity, len(ROW), name="blocks")
        self.passes = BlockSums(capacity, len(FULL_BATCH_ROW), name="passes")
        self.ledger = Ledger(capacity, name="ledger")
        if per_variable:
            self.by_variable = VariableSums(capacity, name="by_variable")
        self._centers = 0
        self._weight_names: tuple[str, ...] | None = None
        self._left_out: frozenset[int] = frozenset()
        self._owner: weakref.ref | None = None
        self._loss: str | None = None

    def build(self, theta_shape: Sequence[Any]) -> None:
        """Creates the record's variables, for weights of the given shapes.

        Args:
            theta_shape: List of shapes, one per weight tensor.
        """
        self.blocks.build()
        self.passes.build()
        self.ledger.build()
        if self.per_variable:
            _check_names(self._weight_names, len(theta_shape))
            self.by_variable.count_weights(len(theta_shape))
            self.by_variable.build()
        once = {"trainable": False, "aggregation": "only_first_replica"}
        # NaN differs from every learning rate: the next step begins a record.
        self.learning_rate = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(float("nan")),
            dtype="float64",
            name="learning_rate",
            **once,
        )
        self.restarts = self.add_weight(
            shape=(), initializer="zeros", dtype="int64", name="restarts", **once
        )
        self.seal_of_weights = self.add_weight(
            shape=(2,), initializer="zeros", dtype="int64", name="seal", **once
        )
        if self.center == "initial":
            # An attribute each: `tf.train.Checkpoint` does not see Keras' lists.
            self._centers = len(theta_shape)
            for i, shape in enumerate(theta_shape):
                name = f"center_{i}"
                weight = self.add_weight(
                    shape=shape, initializer="zeros", name=name, **once
                )
                setattr(self, name, weight)
        self.load_waiting()

    def own_variables(self) -> list[keras.Variable]:
        """This layer's own variables, without those of its parts."""
        state = [self.learning_rate, self.restarts, self.seal_of_weights]
        return state + self.theta_center

    def saved_settings(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "capacity": self.capacity,
            "center": self.center,
            "per_variable": self.per_variable,
        }

    @property
    def theta_center(self) -> list[keras.Variable]:
        """List of `keras.Variable`: θ_c; empty for θ_c = 0."""
        return [getattr(self, f"center_{i}") for i in range(self._centers)]

    def name_weights(self, names: Sequence[str]) -> None:
        """Sets the keys of `record_by_variable`; `FDRSGD` gives the weights' paths.

        Args:
            names: List of strings, one per weight tensor. To those that occur more
                than once their position is added, as in `"dense/kernel#2"`. They
                are saved with the record and come back with it.

        Raises:
            ValueError: If there are not as many names as weight tensors.
        """
        if self.built and self.per_variable:
            _check_names(names, self.by_variable.weights_count)
        self._weight_names = unique_names(names)
        if self.per_variable:
            self.by_variable.names = self._weight_names

    def leave_out(self, positions: Iterable[int]) -> None:
        """Says which of the tensors are not moved by steps, hence not part of Q.

        Args:
            positions: Integers, such as those of float8 scales, which Keras overwrites.
        """
        self._left_out = frozenset(positions)

    def away_from_center(
        self,
        theta: Sequence[tf.Tensor | tf.Variable],
        rows: Sequence[tf.Tensor | None] | None = None,
    ) -> list[tf.Tensor]:
        """θ − θ_c, as a list of tensors.

        Args:
            theta: List of tensors, or of variables where there are rows.
            rows: List of integer vectors, the rows of θ − θ_c that are needed, with
                `None` for all rows. Defaults to all rows of all tensors.
        """
        rows = rows or [None] * len(theta)
        theta = [read_rows(w, i) for w, i in zip(theta, rows, strict=True)]
        if not self.theta_center:
            return theta
        center = [
            read_rows(c.value, i) for c, i in zip(self.theta_center, rows, strict=True)
        ]
        return [w - tf.cast(c, w.dtype) for w, c in zip(theta, center, strict=True)]

    def _moved_by_steps(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return [t for i, t in enumerate(tensors) if i not in self._left_out]

    def record(self) -> Record:
        """Reads the record from the device.

        Returns:
            A `Record`; its `steps` is 0 before the first step.
        """
        return read(self, self.blocks, ROW)

    def record_by_variable(self) -> dict[str, Record]:
        """Reads the record of each weight tensor from the device.

        Returns:
            Dictionary from a weight's name (see `name_weights`; `"weight_0"`, … where
            none was given) to its `Record` of `dissipation` and `fluctuation`. Steps,
            block length and learning rate are those of `record`. A weight that had no
            gradient in any step is left out; in a step without gradient a weight does
            not move, and both are 0. Empty before the first step.

        Raises:
            ValueError: If the layer was made without `per_variable=True`.
        """
        if not self.per_variable:
            raise ValueError(
                "`record_by_variable` needs `FDRObservables(per_variable=True)`. "
                f"Received: per_variable={self.per_variable}"
            )
        if not self.built:
            return {}
        return self.by_variable.split(
            names=self.weight_names(), **values_of(self, self.by_variable)
        )

    def has_names(self) -> bool:
        """Whether the weight tensors have names, given or loaded with a record."""
        return bool(self.per_variable and self.by_variable.names)

    def weight_names(self) -> list[str]:
        """List of strings, the names of `record_by_variable`."""
        count = self.by_variable.weights_count
        return list(self.by_variable.names or (f"weight_{i}" for i in range(count)))

    def full_batch_record(self) -> Record:
        """Reads the record of the full-batch passes since t was last 0.

        Returns:
            A `Record` whose rows are passes, with its own `names`.
        """
        return read(self, self.passes, FULL_BATCH_ROW)

    def recorded_learning_rate(self) -> float:
        """Float, η₀, the rate that the record began with; NaN before its first step."""
        return float(self.learning_rate.numpy()) if self.built else float("nan")

    def newest_learning_rate(self) -> float:
        """Float, η of the newest step; NaN before the first step of the record."""
        if not self.built:
            return float("nan")
        return self.recorded_learning_rate() + self.ledger.newest_deviation()

    # These are methods because Keras would save the layers of a property twice.
    def parts(self) -> list[BlockSums]:
        """The layers that hold rows."""
        return [*self._step_sums(), self.passes]

    def merge(self) -> None:
        """Halves the blocks in use of everything that gets a row in each step."""
        for sums in (*self._step_sums(), self.ledger):
            sums.merge()

    def _step_sums(self) -> list[BlockSums]:
        return [self.blocks, self.by_variable] if self.per_variable else [self.blocks]

    def reset(self) -> None:
        """Sets t = 0: the next step begins a new record."""
        if self.built:
            for sums in self.parts():
                sums.clear()
            self.ledger.load_nothing()
            self.learning_rate.assign(float("nan"))
            # A seal is recognised by its number of steps. The new record will reach
            # this number too, so the seal is cleared.
            self.seal_of_weights.assign(tf.zeros_like(self.seal_of_weights))

    def restart_count(self) -> int:
        """How often a record was cut short by a change of the learning rate."""
        return int(self.restarts.numpy()) if self.built else 0

    def is_of_another_loss(self, loss: str | None) -> bool:
        """Whether steps were recorded with another loss; remembers the present one.

        Args:
            loss: String that names the loss.
        """
        before, self._loss = self._loss, loss
        return before not in (None, loss) and int(self.blocks.steps.numpy()) > 0

    def claim(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Ties the record to one optimizer, when that is built.

        Raises:
            ValueError: If another optimizer has this layer already.
        """
        if self._owner is not None and self._owner() is not optimizer:
            raise ValueError(
                "An `FDRObservables` holds the record of one optimizer: give each "
                "optimizer one of its own as `observables`. Received: "
                f"observables={self.name!r}, which belongs to another optimizer"
            )
        # Keras would save an optimizer that is an attribute.
        self._owner = weakref.ref(optimizer)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        layer = {"name": self.name, "dtype": self.dtype_policy.name}
        return {**layer, **self.saved_settings()}

    def begin_record(self) -> None:
        """What a subclass does besides when a record begins, in the compiled step."""


def _check_names(names: Sequence[str] | None, count: int) -> None:
    if names is not None and len(names) != count:
        raise ValueError(
            "`names` must have one name for each weight tensor. "
            f"Received: {len(names)} names for {count} tensors"
        )
