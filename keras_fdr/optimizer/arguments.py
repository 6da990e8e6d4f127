"""What `FDRSGD` refuses, each with the reason."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_fdr.arguments import check_integer, check_number
from keras_fdr.observables.layer import FDRObservables


def refuse_other_dynamics(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Refuses arguments with which weights move outside eqs. (10) and (11).

    Args:
        kwargs: Dictionary of arguments of a Keras optimizer.

    Returns:
        The same dictionary without these arguments.

    Raises:
        ValueError: If one of these arguments is set.
    """
    reasons = {
        "weight_decay": "decoupled decay moves the weights outside the gradient, "
        "where FDR1 does not see it; `l2` puts the decay into the loss",
        "nesterov": "FDR1 has another right-hand side for Nesterov's momentum; use "
        "`momentum` without it",
        "ema_overwrite_frequency": "overwriting the weights by their average during "
        "training is not a step of SGD, and FDR1 does not hold then; use "
        "`use_ema=True` without it",
    }
    for name, reason in reasons.items():
        value = kwargs.get(name)
        if value:
            raise ValueError(
                f"`{name}` is not supported: {reason}. Received: {name}={value}"
            )
    return {name: value for name, value in kwargs.items() if name not in reasons}


def check_numbers(
    learning_rate: Any, momentum: Any, dampening: Any, l2: Any, accumulation_steps: Any
) -> None:
    """Refuses numbers out of their range, and values that are not numbers.

    Raises:
        ValueError: If a number is out of its range.
        TypeError: If a value is not a number.
    """
    if isinstance(dampening, bool):
        raise TypeError(
            "The third argument of `FDRSGD` is `dampening`, a number in [0, 1). In "
            "`keras.optimizers.SGD` it is `nesterov`, which is not supported. "
            f"Received: dampening={dampening}"
        )
    check_number("momentum", momentum, 0, 1, low_allowed=True)
    check_number("dampening", dampening, 0, 1, low_allowed=True)
    check_number("l2", l2, 0, low_allowed=True)
    # A non-empty dictionary is the configuration of a schedule.
    schedule = callable(learning_rate) or (
        isinstance(learning_rate, dict) and learning_rate
    )
    if not schedule and not isinstance(
        learning_rate, keras.optimizers.schedules.LearningRateSchedule
    ):
        check_number("learning_rate", learning_rate, 0, low_allowed=True)
    if accumulation_steps is not None:
        check_integer("gradient_accumulation_steps", accumulation_steps, 2)


def check_observables(observables: FDRObservables | None) -> None:
    """Refuses an object that cannot measure steps.

    Raises:
        TypeError: If it is not an `FDRObservables`.
    """
    if not (observables is None or isinstance(observables, FDRObservables)):
        raise TypeError(
            "`observables` must be an `FDRObservables`. "
            f"Received: observables={observables}"
        )


def check_weights(variables: Sequence[keras.Variable]) -> None:
    """Refuses weights to which the relations do not apply.

    Args:
        variables: List of trainable `keras.Variable`.

    Raises:
        TypeError: If one is not a `keras.Variable`.
        ValueError: Under `ParameterServerStrategy`, or if a weight has a constraint or
            is in half precision.
    """
    strategy = tf.distribute.get_strategy()
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        raise ValueError(
            "`ParameterServerStrategy` is not supported: each of its workers steps "
            "from weights that others have moved meanwhile, and Keras 3 does not train "
            "under it. Use `MirroredStrategy` or `MultiWorkerMirroredStrategy`. "
            f"Received: weights under {type(strategy).__name__}"
        )
    for variable in variables:
        if not isinstance(variable, keras.Variable):
            raise TypeError(
                "Weights must be of the type `keras.Variable`. "
                f"Received: {variable.name!r} of type {type(variable).__name__}"
            )
        name = variable.path
        if getattr(variable, "constraint", None) is not None:
            raise ValueError(
                "Weight constraints are not supported: they move the weights outside "
                "the gradient, and FDR1 does not hold. "
                f"Received: a constraint on {name!r}"
            )
        if variable.dtype not in ("float32", "float64"):
            raise ValueError(
                "Weights must be float32 or float64: in half precision the rounding "
                "of the update is larger than what the relations compare. Use a "
                "`mixed_` policy, which keeps the weights in float32. "
                f"Received: {name!r} of {variable.dtype}"
            )
