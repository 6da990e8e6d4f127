"""FDR1's two sides from what any optimizer does to the weights."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_fdr import _compat
from keras_fdr.observables.entering import enter
from keras_fdr.observables.stored_record import StoredRecord
from keras_fdr.observables.weights_state import WeightsState, weights_state
from keras_fdr.products import dot, float64, products_of


class Displacements(StoredRecord):
    """Measures FDR1 of any optimizer, from the weights before and after each step.

    Let Δ(t) = θ(t+1) − θ(t) be whatever the optimizer did in step t, with decay,
    clipping and constraints. Let β in [0, 1) be the memory of its first moment, and
    θ_c the center. The two sides of FDR1 are

        O_L = β [θ(t)−θ_c]·Δ(t−1) − [θ(t)−θ_c]·Δ(t),   O_R = ½ (1+β) |Δ(t)|².

    For every run of T steps and every schedule, the sum of O_L − O_R is −[Q(T) − Q(0)]
    with

        Q = ½ (1−β) |θ−θ_c|² + β [θ(t)−θ_c]·Δ(t−1).

    So ⟨O_L⟩ = ⟨O_R⟩ in any stationary state. For SGD with momentum β at a constant η
    these are the paper's eq. (17), times η. The rows of the record are divided by η₀,
    the rate that the record began with.

    No gradient is needed, so `velocity_gradient` and `gradient_norm_squared` are NaN in
    every row.

    Args:
        beta: Float in [0, 1), β.
        **kwargs: As in `FDRObservables`.
    """

    may_be_missing = True

    def __init__(self, beta: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.beta = beta
        # A file of the optimizer alone means t = 0.
        for part in self.parts():
            part.may_be_missing = True

    def build(self, theta_shape: Sequence[Any]) -> None:
        """Creates the record's variables, for weights of the given shapes.

        Args:
            theta_shape: List of shapes, one per weight tensor.
        """
        # [θ(t)−θ_c]·Δ(t−1) of each tensor: a(t−1) + b(t−1) in the notation below.
        self.memory = self.add_weight(
            shape=(len(theta_shape),),
            initializer="zeros",
            dtype="float64",
            name="memory",
            trainable=False,
            aggregation="only_first_replica",
        )
        super().build(theta_shape)

    def own_variables(self) -> list[keras.Variable]:
        """This layer's own variables, without those of its parts."""
        return [self.memory, *super().own_variables()]

    def saved_settings(self) -> dict[str, Any]:
        """What a file must agree in."""
        return {**super().saved_settings(), "beta": self.beta}

    def load_nothing(self) -> None:
        """A file of a run that was not measured means t = 0."""
        if self.built:
            self.reset()
            self.memory.assign(tf.zeros_like(self.memory))

    @tf.function(autograph=False)
    def call(
        self,
        theta: Sequence[tf.Tensor],
        theta_next: Sequence[tf.Tensor],
        learning_rate: Any,
        loss: Any = None,
        whole: bool = True,
    ) -> tf.Tensor:
        """Adds one step to the record.

        Args:
            theta: List of tensors, the weights θ(t) before the step.
            theta_next: List of tensors, the weights θ(t+1) after the step.
            learning_rate: Scalar, η; 1 for an optimizer that has none.
            loss: Scalar tensor, f^B, or `None`.
            whole: Boolean, whether the tensors are all weights. Otherwise they may be
                only those rows that moved, and Q remains unknown until the next seal.

        Returns:
            Float64 tensor of shape `(5,)`, the row in the units of η₀.
        """
        eta, beta = float64(learning_rate), self.beta

        def moment() -> tf.Tensor:
            remembered = tf.reduce_sum(self.memory)
            return (1 - beta) / 2 * dot(theta, theta) + beta * remembered

        def row() -> tf.Tensor:
            enter(self, eta, theta, moment if whole else None)
            away = self.away_from_center(theta)
            displacement = [
                new - old for new, old in zip(theta_next, theta, strict=True)
            ]
            products = products_of([(away, displacement), (displacement, displacement)])
            moved = tf.reduce_sum(products, axis=0)  # a + b
            # β (a(t−1) + b(t−1)) − a(t), and ½ (1+β) b(t).
            weights = tf.constant([[-1, 0], [0, (1 + beta) / 2]], "float64")
            sides = tf.matmul(weights, products)
            remembered = beta * tf.convert_to_tensor(self.memory)
            sides += tf.stack([remembered, tf.zeros_like(remembered)])
            sides = tf.math.divide_no_nan(
                sides, tf.convert_to_tensor(self.learning_rate)
            )
            self.memory.assign(moved)
            if self.per_variable:
                left, right = tf.unstack(sides)
                self.by_variable.add(list(range(len(theta))), left, right)
            unknown = tf.constant(float("nan"), "float64", shape=(2,))
            f = unknown[0] if loss is None else float64(loss)
            return self.blocks(
                tf.concat([tf.reduce_sum(sides, axis=1), unknown, f[None]], axis=0)
            )

        # XLA would compile the program again for every number of rows.
        return (_compat.in_one_launch(row) if whole else row)()

    def begin_record(self) -> None:
        """With θ_c = θ(t) nothing is remembered: θ(t) − θ_c is 0."""
        if self.center is not None:
            self.memory.assign(tf.zeros_like(self.memory))

    def weights_state(self, theta: Sequence[tf.Tensor]) -> WeightsState:
        """What `seal` and `weights_unchanged` take.

        Args:
            theta: List of tensors, the weights now.

        Returns:
            A `WeightsState`.
        """
        return weights_state(
            theta,
            [],
            [tf.convert_to_tensor(c) for c in self.theta_center],
            memory=self.beta,
            step=0.0,
            unit=self.recorded_learning_rate(),
            remembered=float(self.memory.numpy().sum()),
        )
