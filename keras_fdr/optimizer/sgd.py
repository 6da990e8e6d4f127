"""Stochastic gradient descent in the form of the paper."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_fdr._compat import learning_rate_schedule
from keras_fdr.observables.layer import FDRObservables
from keras_fdr.optimizer.arguments import (
    check_numbers,
    check_observables,
    refuse_other_dynamics,
)
from keras_fdr.optimizer.run_state import RunState
from keras_fdr.optimizer.update_rule import add_l2, apply_update
from keras_fdr.sparse_rows import rows_of


@keras.saving.register_keras_serializable(package="keras_fdr")
class FDRSGD(RunState):
    """SGD with momentum and dampening that measures itself.

    With the weights θ, the mini-batch loss f^B, the velocity v, the learning rate η,
    the momentum μ and the dampening ν, the update is that of eqs. (10) and (11):

        v(t+1) = μ v(t) − (1−ν) ∇f^B[θ(t)]
        θ(t+1) = θ(t) + η v(t+1)

    The velocity does not contain the learning rate. `keras.optimizers.SGD` stores η v
    instead, which keeps the old scale when η changes. With the same arguments, ν = 0
    and a constant η, both produce the same weights up to rounding.

    ∇f^B is the gradient that the update really uses: with the L2 term, averaged
    over accumulated batches, unscaled and clipped. `observables` measures every step
    with it, inside the compiled train step.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> optimizer = FDRSGD(learning_rate=0.05, momentum=0.9, l2=0.01)
    >>> model.compile(optimizer=optimizer, loss="mse")
    >>> x, y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
    >>> history = model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    >>> optimizer.observables.record().steps
    4
    >>> [tuple(velocity.shape) for velocity in optimizer.velocities]
    [(3, 1), (1,)]

    After `import keras_fdr`, Keras knows the optimizer by the name `"fdrsgd"`, too:

    >>> model.compile(optimizer="fdrsgd", loss="mse")
    >>> model.optimizer.momentum
    0.0
    >>> settings = {"class_name": "fdrsgd", "config": {"momentum": 0.9}}
    >>> keras.optimizers.get(settings).momentum
    0.9

    Args:
        learning_rate: Float, a `keras.optimizers.schedules.LearningRateSchedule`
            or a callable without arguments: η. Defaults to `0.01`.
        momentum: Float in [0, 1): μ. If it is 0, no velocity is stored.
            Defaults to `0.0`.
        dampening: Float in [0, 1): ν. Defaults to `0.0`.
        l2: Float, at least 0: λ of the term ½λ|θ|², which is added to the loss and to
            the gradient of every weight. A regularizer of a layer does the same for
            the weights of this layer. Defaults to `0.0`.
        observables: The `FDRObservables` that measures the steps. Defaults to
            one with default arguments.
        **kwargs: Arguments of every Keras optimizer: `clipnorm`, `clipvalue`,
            `global_clipnorm`, `gradient_accumulation_steps`,
            `loss_scale_factor`, `use_ema`, `ema_momentum`, `name`.

    Raises:
        ValueError: If an argument is outside its range, or asks for an update to
            which the relations do not apply (`weight_decay`, `nesterov`,
            `ema_overwrite_frequency`).
        TypeError: If a value that must be a number is not one, or if `observables` is
            not an `FDRObservables`.

    Reference:
        [Yaida, 2019](https://arxiv.org/abs/1810.00004)
    """

    def __init__(
        self,
        learning_rate: (
            float | keras.optimizers.schedules.LearningRateSchedule | Callable[[], Any]
        ) = 0.01,
        momentum: float = 0.0,
        dampening: float = 0.0,
        l2: float = 0.0,
        observables: FDRObservables | None = None,
        **kwargs: Any,
    ) -> None:
        steps = kwargs.get("gradient_accumulation_steps")
        check_numbers(learning_rate, momentum, dampening, l2, steps)
        check_observables(observables)
        kwargs = refuse_other_dynamics(kwargs)
        super().__init__(observables, learning_rate=learning_rate, **kwargs)
        self._momentum = float(momentum)
        self._dampening = float(dampening)
        self._l2 = float(l2)

    # These three have no setters. They are compiled into the train step, so a later
    # change would have no effect.

    @property
    def momentum(self) -> float:
        """Float, μ."""
        return self._momentum

    @property
    def dampening(self) -> float:
        """Float, ν."""
        return self._dampening

    @property
    def l2(self) -> float:
        """Float, λ of ½λ|θ|²."""
        return self._l2

    def moves_touched_rows_only(self) -> bool:
        """Whether nothing but the gradient moves the weights."""
        settings = (
            self.momentum,
            self.l2,
            self.clipnorm,
            self.global_clipnorm,
            self.clipvalue,
            self.gradient_accumulation_steps,
            self.loss_scale_factor,
            self.use_ema,
        )
        return not any(settings)

    def update(self, gradients: list[tf.Tensor | None], loss: tf.Tensor | None) -> None:
        """One step of eqs. (10) and (11), measured before the weights change."""
        # A weight of which only some rows are needed is not read here.
        theta = [
            tf.convert_to_tensor(w.value) if rows_of(g) is None else w.value
            for w, g in zip(self.weights, gradients, strict=True)
        ]
        if self.l2:
            gradients, loss = add_l2(gradients, theta, loss, self.l2)
        gradients = self.clip(gradients)
        learning_rate = tf.convert_to_tensor(self.learning_rate)
        settings = {"momentum": self.momentum, "dampening": self.dampening}
        row = self.observables(
            theta,
            gradients,
            self._slot_values(),
            learning_rate=learning_rate,
            loss=loss,
            **settings,
        )
        slots = self._slots or [None] * len(theta)
        # TensorFlow copies a weight that changes while its old value is still read.
        with tf.control_dependencies([row]):
            for known in zip(self.weights, slots, gradients, strict=True):
                if known[-1] is not None:
                    apply_update(*known, learning_rate, **settings)

    def measure_full_batch(self, full_batch: Any) -> tf.Tensor:
        """Adds a full-batch pass at the present weights and velocities to the record.

        Args:
            full_batch: A `FullBatch` with its gradient.

        Returns:
            Float64 tensor, the row (see `FDRObservables.measure_full_batch`).
        """
        return self.observables.measure_full_batch(
            full_batch.gradient,
            [tf.convert_to_tensor(v.value) for v in self.velocities],
            momentum=self.momentum,
            dampening=self.dampening,
            # A Python number would be compiled in.
            loss=tf.convert_to_tensor(full_batch.loss, "float64"),
        )

    def saved_settings(self) -> dict[str, Any]:
        """What decides which variables there are."""
        return {
            "optimizer": "FDRSGD",
            "momentum above 0": bool(self.momentum),
            "learning rate from a schedule": learning_rate_schedule(self) is not None,
            "gradient accumulation": bool(self.gradient_accumulation_steps),
            "use_ema": bool(self.use_ema),
        }

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = super().get_config()
        del config["weight_decay"], config["ema_overwrite_frequency"]
        observables = keras.saving.serialize_keras_object(self.observables)
        # These are the shapes of this model's weights. The next model may differ.
        observables.pop("build_config", None)
        config.update(
            momentum=self.momentum,
            dampening=self.dampening,
            l2=self.l2,
            observables=observables,
        )
        return config

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "FDRSGD":
        """The optimizer that `get_config` describes, without its state."""
        config = dict(config)
        if isinstance(config.get("observables"), dict):
            config["observables"] = keras.saving.deserialize_keras_object(
                config["observables"], custom_objects=custom_objects
            )
        return super().from_config(config, custom_objects=custom_objects)


# Keras looks for strings here. Files still hold the name `keras_fdr>FDRSGD`.
keras.saving.get_custom_objects()["fdrsgd"] = FDRSGD
