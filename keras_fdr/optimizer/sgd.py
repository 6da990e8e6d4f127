"""Stochastic gradient descent in the form of the paper."""

import keras
import tensorflow as tf

from keras_fdr import _compat
from keras_fdr._compat import learning_rate_schedule
from keras_fdr.model_checks import check_model
from keras_fdr.notices import notice
from keras_fdr.observables.layer import FDRObservables
from keras_fdr.optimizer.arguments import (
    check_numbers,
    check_weights,
    refuse_other_dynamics,
)
from keras_fdr.optimizer.cut_table import CutTable
from keras_fdr.optimizer.decay_state import DecayState
from keras_fdr.optimizer.global_batch import EffectiveGradientOptimizer
from keras_fdr.optimizer.resume_point import ResumePoint
from keras_fdr.products import stacked
from keras_fdr.saving import SavedState


@keras.saving.register_keras_serializable(package="keras_fdr")
class FDRSGD(SavedState, EffectiveGradientOptimizer):
    """SGD with momentum and dampening that measures itself.

    The update, eqs. (10) and (11):

        v(t+1) = μ v(t) − (1−ν) ∇f^B[θ(t)]
        θ(t+1) = θ(t) + η v(t+1)

    The velocity is free of the learning rate, unlike the slot of
    `keras.optimizers.SGD`, which stores η v and so keeps the old scale when η
    changes. At constant η and ν = 0 both follow the same path.

    ∇f^B is the gradient that the update really uses: with the L2 term, averaged
    over accumulated batches, unscaled, clipped. Every step is measured with it by
    `observables`, inside the compiled train step.

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

    Args:
        learning_rate: Float, a `keras.optimizers.schedules.LearningRateSchedule`
            or a callable without arguments: η. Defaults to `0.01`.
        momentum: Float in [0, 1): μ. At 0 no velocity is stored.
            Defaults to `0.0`.
        dampening: Float in [0, 1): ν. Defaults to `0.0`.
        l2: Float, at least 0: λ of the term ½λ|θ|², added to the loss and to the
            gradient of every weight. A regulariser in the layers does the same
            for the weights that have one. Defaults to `0.0`.
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
        learning_rate=0.01,
        momentum=0.0,
        dampening=0.0,
        l2=0.0,
        observables=None,
        **kwargs,
    ):
        check_numbers(
            learning_rate,
            momentum,
            dampening,
            l2,
            kwargs.get("gradient_accumulation_steps"),
        )
        if not (observables is None or isinstance(observables, FDRObservables)):
            raise TypeError(
                "`observables` must be an `FDRObservables`. "
                f"Received: observables={observables}"
            )
        kwargs = refuse_other_dynamics(kwargs)
        super().__init__(learning_rate=learning_rate, **kwargs)
        self._momentum = float(momentum)
        self._dampening = float(dampening)
        self._l2 = float(l2)
        self._slots = []
        self.observables = observables or FDRObservables(name="observables")
        self.cut_table = CutTable(name="cut_table")
        self.progress = ResumePoint(name="progress")
        self.final_decay = DecayState(name="final_decay")

    # Compiled into the train step, where a later change would go unnoticed:
    # hence without setters.

    @property
    def momentum(self):
        """Float, μ."""
        return self._momentum

    @property
    def dampening(self):
        """Float, ν."""
        return self._dampening

    @property
    def l2(self):
        """Float, λ of ½λ|θ|²."""
        return self._l2

    @property
    def variables(self):
        """List of `keras.Variable`, without those of the record and of the cuts."""
        if _compat.called_by_set_state_tree():
            notice(
                "A state tree has the optimizer's own variables only: the record and "
                "the cuts of the run are not in it, so those of this optimizer stay as "
                "they are. Use `save_weights` and `load_weights` with a `.weights.h5` "
                "file, or `.keras` files, to carry them as well."
            )
        return super().variables

    @property
    def velocities(self):
        """List of `keras.Variable`: v(t) of each weight; empty where μ = 0."""
        return [slot for slot in self._slots if slot is not None]

    def seal(self):
        """Remembers weights and velocities, to notice who else changes them."""
        self.observables.seal(self._weights_state())

    def weights_unchanged(self):
        """Whether only steps have changed weights and velocities since `seal`."""
        return self.observables.weights_unchanged(self._weights_state())

    def _weights_state(self):
        return self.observables.weights_state(
            [tf.convert_to_tensor(w.value) for w in self.weights],
            self._slot_values(),
            momentum=self.momentum,
            dampening=self.dampening,
        )

    def _slot_values(self):
        return [
            None if v is None else tf.convert_to_tensor(v.value) for v in self._slots
        ]

    def reset_velocities(self):
        """Sets every velocity to 0 and t = 0, as the paper does between runs."""
        for velocity in self.velocities:
            velocity.assign(keras.ops.zeros_like(velocity))
        self.observables.reset()

    def build(self, variables):
        """Creates velocities and record; called by Keras before the first step.

        Args:
            variables: List of trainable `keras.Variable`.

        Raises:
            ValueError: If the relations cannot hold for one of the variables, or
                under `ParameterServerStrategy`.
        """
        if self.built:
            return
        check_weights(variables)
        self.observables.claim(self)
        self.observables.leave_out(
            i
            for i, v in enumerate(variables)
            if getattr(v, "overwrite_with_gradient", False)
        )
        # `fit` builds inside the trace of the first step.
        with _compat.variables_outside_of_traces():
            super().build(variables)
            if self.momentum:
                self._slots = self.add_optimizer_variables(variables, "velocity")
            # Keras builds a layer that it loads from a file before we come here.
            if not self.observables.built:
                self.observables.build([v.shape for v in variables])
            if not self.observables.has_names():
                self.observables.name_weights([v.path for v in variables])
            self.cut_table.build()
            self.progress.build()
        self.load_waiting()

    def update(self, gradients, loss):
        """One step of eqs. (10) and (11), measured before the weights change."""
        theta = [tf.convert_to_tensor(w.value) for w in self.weights]
        if self.l2:
            gradients, loss = self._add_l2(theta, gradients, loss)
        gradients = self.clip(gradients)
        learning_rate = tf.convert_to_tensor(self.learning_rate)
        row = self.observables(
            theta,
            gradients,
            self._slot_values(),
            learning_rate=learning_rate,
            momentum=self.momentum,
            dampening=self.dampening,
            loss=loss,
        )
        # TensorFlow copies a weight that changes while its old value is still read.
        with tf.control_dependencies([row]):
            for i, gradient in enumerate(gradients):
                if gradient is not None:
                    self._move(i, gradient, learning_rate)

    def measure_full_batch(self, full_batch):
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

    def _add_l2(self, theta, gradients, loss):
        """The gradients and the loss with the term ½λ|θ|²."""
        pairs = list(zip(gradients, theta, strict=True))
        if loss is not None:
            halves = stacked([tf.nn.l2_loss(w) for g, w in pairs if g is not None])
            l2_term = self.l2 * tf.reduce_sum(tf.cast(halves, "float64"))
            loss = tf.cast(loss, "float64") + l2_term
        return [None if g is None else g + self.l2 * w for g, w in pairs], loss

    def _move(self, i, gradient, learning_rate):
        theta = self.weights[i].value
        eta = tf.cast(learning_rate, theta.dtype)
        mu, nu = self.momentum, self.dampening
        if not self._slots:
            tf.raw_ops.ResourceApplyGradientDescent(
                var=theta.handle, alpha=(1 - nu) * eta, delta=gradient
            )
        else:
            # accum ← momentum·accum + grad, var ← var − lr·accum: with −η for the
            # rate the slot is v(t+1) itself, eq. (10), and eq. (11) follows.
            tf.raw_ops.ResourceApplyMomentum(
                var=theta.handle,
                accum=self._slots[i].value.handle,
                lr=-eta,
                grad=-(1 - nu) * gradient,
                momentum=tf.constant(mu, theta.dtype),
            )

    def saved_settings(self):
        """What decides which variables there are."""
        return {
            "optimizer": "FDRSGD",
            "momentum above 0": bool(self.momentum),
            "learning rate from a schedule": learning_rate_schedule(self) is not None,
            "gradient accumulation": bool(self.gradient_accumulation_steps),
            "use_ema": bool(self.use_ema),
        }

    def get_config(self):
        """The constructor's arguments."""
        config = super().get_config()
        del config["weight_decay"], config["ema_overwrite_frequency"]
        observables = keras.saving.serialize_keras_object(self.observables)
        # The shapes of this model's weights; those of the next may differ.
        observables.pop("build_config", None)
        config.update(
            momentum=self.momentum,
            dampening=self.dampening,
            l2=self.l2,
            observables=observables,
        )
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The optimizer that `get_config` describes, without its state."""
        config = dict(config)
        if isinstance(config.get("observables"), dict):
            config["observables"] = keras.saving.deserialize_keras_object(
                config["observables"], custom_objects=custom_objects
            )
        return super().from_config(config, custom_objects=custom_objects)


def measuring_optimizer(model, who):
    """The `FDRSGD` of a compiled model, also inside a `LossScaleOptimizer`.

    Args:
        model: A compiled `keras.Model`.
        who: Name of the caller, for the error.

    Raises:
        TypeError: If `model` is no `keras.Model`.
        ValueError: If the model has another optimizer.
    """
    check_model(model)
    # A `Sequential` has no such attribute before `compile`.
    optimizer = getattr(model, "optimizer", None)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not isinstance(inner, FDRSGD):
        others = [
            f"{name} ({type(value).__name__})"
            for name, value in vars(model).items()
            if isinstance(value, keras.optimizers.Optimizer) and value is not optimizer
        ]
        found = f"optimizer={type(inner).__name__}"
        if others:
            found += (
                f" as `model.optimizer`, and {', '.join(others)}, which `{who}` does "
                "not measure"
            )
        raise ValueError(
            f"`{who}` needs an optimizer that measures its steps: compile "
            "the model with `keras_fdr.FDRSGD`. "
            f"Received: {found}"
        )
    return inner
