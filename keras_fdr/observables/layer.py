"""FDR1's two sides from gradients and velocities: the paper's form."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_fdr import _compat
from keras_fdr.observables.arguments import check_call
from keras_fdr.observables.entering import enter
from keras_fdr.observables.stored_record import StoredRecord
from keras_fdr.observables.weights_state import WeightsState, weights_state
from keras_fdr.products import dot, dots, float64, products_of
from keras_fdr.sparse_rows import rows_of, values_of


@keras.saving.register_keras_serializable(package="keras_fdr")
class FDRObservables(StoredRecord):
    """Measures the observables of the fluctuation-dissipation relations.

    One call measures one step of SGD with momentum μ and dampening ν, before
    the weights change:

    - `dissipation`: O_L = (θ − θ_c)·∇f^B, eq. (17);
    - `fluctuation`: O_R = (1+μ)/(2(1−ν)) η |v(t+1)|², eq. (17), with
      v(t+1) = μ v(t) − (1−ν) ∇f^B, eq. (10);
    - `velocity_gradient`: v(t)·∇f^B, footnote 5 (0 where there is no velocity);
    - `gradient_norm_squared`: |∇f^B|², whose mean is Tr C̃, eq. (3);
    - `loss`: f^B, NaN where the caller does not know it.

    The rows are summed into `capacity` blocks inside the compiled step. When all
    blocks are full, neighbours merge, so memory stays the same for a run of any
    length.

    A record belongs to one learning rate. If the rate changes after several steps at
    one rate, the record restarts at t = 0. A schedule changes it at every step. Then
    the record continues, and the rows are averaged with the weights η(t)/η₀, where η₀
    is the first rate. With the displacement Δ(t) = η(t) v(t+1) they are

        O_L = [μ θ·Δ(t−1) − θ·Δ(t)] / (η₀ (1−ν)),   O_R = (1+μ)/2 |Δ(t)|² / (η₀ (1−ν)),

    so Σ (O_L − O_R) is the drift of a quadratic form of weights and velocities for
    every schedule. At a constant rate these are eq. (17).

    Example:

    >>> import tensorflow as tf
    >>> observables = FDRObservables()
    >>> theta, gradient = [tf.constant([1.0, 2.0])], [tf.constant([0.5, -1.0])]
    >>> row = observables(
    ...     theta, gradient, [], learning_rate=tf.constant(0.1), momentum=0.0,
    ...     dampening=0.0, loss=tf.constant(0.7))
    >>> print(row.numpy().round(4))
    [-1.5     0.0625  0.      1.25    0.7   ]
    >>> observables.record().steps
    1

    FDR1 holds for each weight tensor separately: the rows of O_L and O_R are sums
    over tensors, and `per_variable=True` keeps the summands too.

    >>> observables = FDRObservables(per_variable=True)
    >>> theta, gradient = theta + [tf.constant([2.0])], gradient + [tf.constant([1.0])]
    >>> row = observables(
    ...     theta, gradient, [], learning_rate=tf.constant(0.1), momentum=0.0,
    ...     dampening=0.0)
    >>> for name, record in observables.record_by_variable().items():
    ...     print(name, record.sums.round(4))
    weight_0 [[-1.5     0.0625]]
    weight_1 [[2.   0.05]]

    Args:
        capacity: Even integer, at least 2. The number of blocks of the record.
            Half-running averages start exactly at ⌊t/2⌋ while t ≤ `capacity`,
            and within t/`capacity` steps of it afterwards. Defaults to `1024`.
        center: `None` for θ_c = 0, or `"initial"` for the weights when t was
            last 0 (footnote 4: better conditioned where θ is large; costs one
            copy of the weights). Defaults to `None`.
        per_variable: Boolean. Whether to record O_L and O_R of every weight tensor
            separately as well, for `record_by_variable`. No pass over the weights is
            added; the record grows by `3 * capacity` numbers of 8 bytes for each
            tensor. Defaults to `False`.
        **kwargs: `name` of the layer.

    Call arguments:
        theta: List of weight tensors θ(t).
        gradient: List of gradients ∇f^B of the same shapes, with every L2 term;
            `None` leaves that weight out. Without momentum, a `tf.IndexedSlices` that
            has each row at most once is allowed: only these rows of the weight are
            read, if `theta` has its `tf.Variable` in this place.
        velocity: List of velocities v(t), *before* the step, free of the
            learning rate; an empty list where there is no momentum.
        learning_rate: Scalar tensor, η.
        momentum: Scalar, μ.
        dampening: Scalar, ν.
        loss: Scalar tensor, f^B with every L2 term, or `None`.

    Returns:
        Float64 tensor of shape `(5,)`: the row, in the order of
        `FDRObservables.names`.

    Raises:
        ValueError: If `capacity`, `center` or `per_variable` is not as above; in a
            call, if the lists do not belong together, or μ or ν is not in [0, 1).

    Reference:
        [Yaida, 2019](https://arxiv.org/abs/1810.00004), sections 2.1 and 3.1.
    """

    @tf.function(autograph=False)
    def call(
        self,
        theta: Sequence[tf.Tensor],
        gradient: Sequence[tf.Tensor | tf.IndexedSlices | None],
        velocity: Sequence[tf.Tensor],
        learning_rate: Any,
        momentum: Any,
        dampening: Any,
        loss: Any = None,
    ) -> tf.Tensor:
        """Measures one step and adds it to the record (see the class)."""
        check_call(theta, gradient, velocity, momentum, dampening)
        rows = [rows_of(g) for g in gradient]
        eta, mu, nu = map(float64, (learning_rate, momentum, dampening))

        def moment() -> tf.Tensor:
            whole = [tf.convert_to_tensor(w) for w in theta]
            moved, v = map(self._moved_by_steps, (whole, velocity))
            theta_theta, theta_v = dot(moved, moved), _dot(moved, v)
            return ((1 - mu) / 2 * theta_theta + mu * eta * theta_v) / (1 - nu)

        def row() -> tf.Tensor:
            weight, change = enter(self, eta, theta, moment)
            known = [i for i, g in enumerate(gradient) if g is not None]
            g = [values_of(gradient[i]) for i in known]
            v = [velocity[i] for i in known] if velocity else []
            away = self.away_from_center(theta, rows)
            away = [away[i] for i in known]

            # A column per weight tensor; the rows of the record are sums of columns.
            pairs = (
                [(away, g), (g, g), (v, g), (v, v)] if velocity else [(away, g), (g, g)]
            )
            products = products_of(pairs)
            if velocity:
                # Where η changes, Δ(t−1) = η(t−1) v(t) is not η(t) v(t).
                products = tf.cond(
                    tf.equal(change, 0),
                    lambda: products,
                    lambda: tf.concat(
                        [
                            products[:1]
                            - mu * change / (eta * (1 - nu)) * dots(away, v),
                            products[1:],
                        ],
                        axis=0,
                    ),
                )
            # |v(t+1)|², eq. (10) squared, so that no pass over v(t+1) is needed.
            v_next = [(1 - nu) ** 2, -2 * mu * (1 - nu), mu**2]
            half = (1 + mu) / (2 * (1 - nu))
            sides = tf.stack(
                [[1, 0, 0, 0], [0, *(half * part for part in v_next)]]  # eq. (17)
            )[:, : len(pairs)]
            scale = tf.stack([weight, weight * eta])
            if self.per_variable:
                left, right = tf.unstack(scale[:, None] * tf.matmul(sides, products))
                self.by_variable.add(known, left, right)
            totals = tf.reduce_sum(products, axis=1)
            f = float64(float("nan") if loss is None else loss)
            v_g = totals[2:3] if velocity else tf.zeros(1, "float64")
            parts = [scale * tf.linalg.matvec(sides, totals), v_g, totals[1:2], f[None]]
            return self.blocks(tf.concat(parts, axis=0))

        # XLA would compile the program again for every number of rows.
        all_rows = all(touched is None for touched in rows)
        return (_compat.in_one_launch(row) if all_rows else row)()

    def weights_state(
        self,
        theta: Sequence[tf.Tensor],
        velocity: Sequence[tf.Tensor],
        momentum: float,
        dampening: float,
    ) -> WeightsState:
        """What `seal` and `weights_unchanged` take.

        Args:
            theta: List of tensors, the weights now.
            velocity: List of their velocities; empty where there is no momentum.
            momentum: Float, μ.
            dampening: Float, ν.

        Returns:
            A `WeightsState`.
        """
        center = [tf.convert_to_tensor(c) for c in self.theta_center]
        theta, velocity, center = map(self._moved_by_steps, (theta, velocity, center))
        return weights_state(
            theta,
            velocity,
            center,
            memory=momentum,
            step=self.newest_learning_rate() if velocity else 0.0,
            unit=self.recorded_learning_rate() * (1 - dampening),
        )

    @tf.function(autograph=False)
    def measure_full_batch(
        self,
        gradient: Sequence[tf.Tensor],
        velocity: Sequence[tf.Tensor],
        momentum: Any,
        dampening: Any,
        loss: Any,
    ) -> tf.Tensor:
        """Measures FDR2's left side once and adds it to the full-batch record.

            O_FB = (1−ν) |∇f|² − μ v(t)·∇f,   eq. (18)

        with the full-batch gradient in both terms: v·∇f^B has the same mean only
        where mini-batches are drawn independently.

        Args:
            gradient: List of tensors, ∇f(θ(t)), with every L2 term.
            velocity: List of velocities v(t), free of the learning rate; an empty
                list where there is no momentum.
            momentum: Scalar, μ.
            dampening: Scalar, ν.
            loss: Scalar, f(θ(t)).

        Returns:
            Float64 tensor of shape `(4,)`: `full_batch_loss`,
            `full_batch_gradient_norm_squared` |∇f|²,
            `full_batch_velocity_gradient` v·∇f and `full_batch_dissipation` O_FB.
        """
        mu, nu, f = map(float64, (momentum, dampening, loss))
        g_g = dot(gradient, gradient)
        v_g = dot(velocity, gradient) if velocity else tf.zeros((), "float64")
        tf.cond(self.passes.is_full(), self.passes.merge, lambda: None)
        return self.passes(tf.stack([f, g_g, v_g, (1 - nu) * g_g - mu * v_g]))


def _dot(theta: Sequence[tf.Tensor], velocity: Sequence[tf.Tensor]) -> tf.Tensor:
    return dot(theta, velocity) if velocity else tf.zeros((), "float64")
