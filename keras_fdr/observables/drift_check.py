"""The exact identity as a check that nothing but steps has moved the weights."""

import math

import keras
import tensorflow as tf

from keras_fdr.saving import SavedState

# The scalar products of `products.dots` lose at most this many units of the last place
# of |x| |y|, measured up to 2^23 elements.
_ULPS_OF_A_PRODUCT = 512


class DriftCheck(SavedState, keras.layers.Layer):
    """Remembers Q at one step of a record, to compare with the rows that follow.

    For every run, with no expectation taken,

        Q(T) − Q(t) = Σ (O_R − O_L) over the steps from t to T,

    unless something else than these steps has moved weights or velocities.
    """

    may_be_missing = True

    def __init__(self, **kwargs):
        super().__init__(trainable=False, dtype="float64", autocast=False, **kwargs)

    def build(self, input_shape=None):
        """Creates the variable; its shape is known."""
        del input_shape
        # Q, the sum of O_R − O_L, that of O_R, and 1 + the steps up to there. Zeros,
        # as in files of older code, mean that Q is unknown.
        self.base = self.add_weight(
            shape=(4,),
            initializer="zeros",
            name="base",
            trainable=False,
            aggregation="only_first_replica",
        )
        self.load_waiting()

    def saved_settings(self):
        """None: every record has this variable."""
        return {}

    def load_nothing(self):
        """In a file without this layer Q is unknown."""
        self.forget()

    def begin(self, q: tf.Tensor):
        """Remembers Q at the beginning of a record, a scalar float64 tensor."""
        zero = tf.zeros_like(q)
        self.base.assign(tf.stack([q, zero, zero, zero + 1]))

    def forget(self):
        """Says that Q is not known at the beginning of a record."""
        self.base.assign(tf.zeros_like(self.base))

    def keep(self, q: float, rows: tuple[float, float], steps: int):
        """Remembers Q after `steps` steps.

        Args:
            q: Float, Q.
            rows: The sums of O_L and O_R over these steps.
            steps: Integer, t.
        """
        dissipation, fluctuation = rows
        self.base.assign([q, fluctuation - dissipation, fluctuation, 1.0 + steps])

    def holds(
        self,
        q: float,
        rows: tuple[float, float],
        steps: int,
        norm: float,
        memory: float,
        unit: float,
        epsilon: float,
    ) -> bool:
        """Whether Q moved by what the rows say, to within rounding.

        One step θ ← θ + Δ rounds each weight by at most u |θ_i|, with u half the
        spacing of numbers at 1, hence moves Q by at most (1−β) u |θ|²/η₀. A scalar
        product of θ and Δ is off by at most 512 u |θ| |Δ|. Over T steps Σ |Δ| is at
        most D = √(T Σ |Δ|²), by Cauchy and Schwarz, and |θ| at most |θ(T)| + D. So

            bound = u Θ [(1−β) T Θ + 512 D]/η₀,   Θ = |θ(T)| + |θ_c| + D

        holds for every run, also for steps that rounding swallows. There is no chance
        in it, hence no false alarm.

        Args:
            q: Float, Q now.
            rows: The sums of O_L and O_R over the whole record.
            steps: Integer, t.
            norm: Float, |θ| + |θ_c| now.
            memory: Float, β (μ for `FDRSGD`).
            unit: Float, η₀ (1−ν), by which the rows were divided.
            epsilon: Float, the spacing of the weights' numbers at 1.
        """
        q_base, sum_base, fluctuation_base, steps_base = map(float, self.base.numpy())
        taken = steps + 1 - steps_base
        if steps_base == 0 or taken < 0 or not unit > 0:
            return True
        dissipation, fluctuation = rows
        # |Δ|² is O_R · 2 unit/(1+β).
        squares = 2 * unit * max(fluctuation - fluctuation_base, 0.0) / (1 + memory)
        path = math.sqrt(taken * squares)
        size = norm + path
        u = epsilon / 2
        bound = u * size * ((1 - memory) * taken * size + _ULPS_OF_A_PRODUCT * path)
        # The sums themselves are float64.
        bound = bound / unit + 1e-12 * (abs(q) + abs(fluctuation) + abs(dissipation))
        change = (q - q_base) - (fluctuation - dissipation - sum_base)
        # What is NaN is told apart elsewhere.
        return not abs(change) > bound
