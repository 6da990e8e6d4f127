"""What a record needs besides its rows: the rates of its steps, and Q at one step."""

import math
from typing import Any

import keras
import tensorflow as tf

from keras_fdr import _compat
from keras_fdr.observables.weights_state import WeightsState
from keras_fdr.state_layer import StateLayer, StateVariable

# The scalar products of `products.dots` lose at most this many units of the last place
# of |x| |y|, measured up to 2^23 elements.
_ULPS_OF_A_PRODUCT = 512

# Positions in the variable. Files of older code have only zeros here. They mean a
# record at one rate, whose Q is unknown.
_Q, _DIFFERENCE, _FLUCTUATION, _STEPS = range(4)  # at the base; _STEPS is 1 + steps
_NEWEST, _CHANGED = 4, 5  # η − η₀ of the newest step, and 1 if it changed the rate
_DEVIATIONS = 6  # the first of the sums of η − η₀ over each block


class Ledger(_compat.OptionalInCheckpoints, StateLayer):
    """The learning rates of a record, and the exact identity as a check of the weights.

    η₀ is the rate that the record began with, in whose units its rows are kept. For
    every run, with no expectation taken,

        Q(T) − Q(t) = Σ (O_R − O_L) over the steps from t to T,

    unless something besides these steps has moved weights or velocities. Q is
    remembered at one step, the base, to compare with the rows that follow.

    Args:
        capacity: even integer, at least 2. The number of blocks.
    """

    may_be_missing = True

    entries: keras.Variable

    def __init__(self, capacity: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.capacity = capacity

    def state_variables(self) -> list[StateVariable]:
        """One variable, so that a checkpoint has all of it or nothing."""
        return [StateVariable("entries", "entries", (_DEVIATIONS + self.capacity,))]

    def saved_settings(self) -> dict[str, Any]:
        """The number of blocks."""
        return {"capacity": self.capacity}

    def load_nothing(self) -> None:
        """A file without this layer holds a record at one rate."""
        self.entries.assign(tf.zeros_like(self.entries))

    def is_empty(self) -> bool:
        """Whether there was no step yet: then checkpoints need not have this layer."""
        return not (self.built and self.entries.numpy().any())

    # In the compiled step

    def newest(self) -> tf.Tensor:
        """Tensor of shape `(2,)`: η − η₀ of the newest step, and 1 if that was new."""
        return tf.convert_to_tensor(self.entries)[_NEWEST:_DEVIATIONS]

    def begin(self, q: tf.Tensor | None, changed: tf.Tensor) -> None:
        """Begins a record with a step at η₀.

        Args:
            q: scalar float64 tensor, Q before the step; `None` where it is unknown.
            changed: scalar bool tensor, whether the step changed the rate.
        """
        zero = tf.zeros((), "float64")
        base = [q, zero, zero, zero + 1] if q is not None else [zero] * 4
        head = tf.stack([*base, zero, tf.cast(changed, "float64")])
        self.entries.assign(tf.pad(head, [[0, self.capacity]]))

    def add(self, block: tf.Tensor, deviation: tf.Tensor, changed: tf.Tensor) -> None:
        """Adds one step to a record.

        Args:
            block: scalar integer tensor, the block that the step belongs to.
            deviation: scalar float64 tensor, η(t) − η₀.
            changed: scalar bool tensor, whether η(t) differs from η(t−1).
        """
        newest = tf.stack([deviation, tf.cast(changed, "float64")])
        value = self.entries.value
        value.scatter_update(tf.IndexedSlices(newest, tf.constant([_NEWEST, _CHANGED])))
        position = tf.cast(block, "int64") + _DEVIATIONS
        value.scatter_add(tf.IndexedSlices(deviation[None], position[None]))

    def merge(self) -> None:
        """Adds neighbouring blocks, as `BlockSums.merge` does."""
        half = self.capacity // 2
        entries = tf.convert_to_tensor(self.entries)
        pairs = tf.reshape(entries[_DEVIATIONS:], (half, 2))
        merged = tf.pad(tf.reduce_sum(pairs, axis=1), [[0, self.capacity - half]])
        self.entries.assign(tf.concat([entries[:_DEVIATIONS], merged], axis=0))

    def deviations_in_blocks(self) -> tf.Tensor:
        """Tensor of shape `(capacity,)`: the sums of η − η₀ over each block."""
        return tf.convert_to_tensor(self.entries)[_DEVIATIONS:]

    # From outside of any graph

    def deviations(self, blocks: int) -> Any:
        """Float array of shape `(blocks,)`: the sums of η − η₀."""
        return self.entries.numpy()[_DEVIATIONS : _DEVIATIONS + blocks]

    def newest_deviation(self) -> float:
        """η − η₀ of the newest step."""
        return float(self.entries.numpy()[_NEWEST])

    def keep(self, q: float, rows: tuple[float, float], steps: int) -> None:
        """Remembers Q after `steps` steps.

        Args:
            q: Float, Q.
            rows: The sums of O_L and O_R over these steps.
            steps: Integer, t.
        """
        dissipation, fluctuation = rows
        entries = self.entries.numpy()
        entries[:_NEWEST] = q, fluctuation - dissipation, fluctuation, 1.0 + steps
        self.entries.assign(entries)

    def holds(self, state: WeightsState, rows: tuple[float, float], steps: int) -> bool:
        """Whether Q moved by as much as the rows say, up to rounding errors.

        Let u be half the spacing of numbers at 1. One step θ ← θ + Δ rounds each weight
        by at most u |θ_i|, so it moves Q by at most (1−β) u |θ|²/η₀. A scalar product
        of θ and Δ is off by at most 512 u |θ| |Δ|. Let D = √(T Σ |Δ|²) for T steps.
        Then Σ |Δ| ≤ D, by Cauchy and Schwarz, and |θ| ≤ |θ(T)| + D at every step. So
        the rounding errors of Q are at most

            bound = u Θ [(1−β) T Θ + 512 D]/η₀,   Θ = |θ(T)| + |θ_c| + D

        The bound holds for every run, also if rounding swallows whole steps. It is not
        a statistical test, so it never gives a false alarm.

        Args:
            state: The `WeightsState` now.
            rows: The sums of O_L and O_R over the whole record.
            steps: Integer, t.
        """
        q, memory, unit = state.q, state.memory, state.unit
        base = self.entries.numpy()
        taken = steps + 1 - base[_STEPS]
        if base[_STEPS] == 0 or taken < 0 or not unit > 0:
            return True
        dissipation, fluctuation = rows
        # |Δ|² is O_R · 2 unit/(1+β).
        squares = 2 * unit * max(fluctuation - base[_FLUCTUATION], 0.0) / (1 + memory)
        path = math.sqrt(taken * squares)
        size = state.norm + path
        u = state.epsilon / 2
        bound = u * size * ((1 - memory) * taken * size + _ULPS_OF_A_PRODUCT * path)
        # The sums themselves are float64.
        bound = bound / unit + 1e-12 * (abs(q) + abs(fluctuation) + abs(dissipation))
        change = (q - base[_Q]) - (fluctuation - dissipation - base[_DIFFERENCE])
        # A NaN fails this comparison, so it counts as unchanged here. The callback
        # warns of numbers that are not finite.
        return not abs(change) > bound
