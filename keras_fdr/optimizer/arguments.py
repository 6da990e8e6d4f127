"""What `FDRSGD` refuses, each with the reason."""

import keras
import tensorflow as tf


def refuse_other_dynamics(kwargs):
    """Refuses by name what moves the weights outside eqs. (10) and (11)."""
    reasons = {
        "weight_decay": "decoupled decay moves the weights outside the gradient, "
        "where FDR1 does not see it; `l2` puts the decay into the loss",
        "nesterov": "FDR1 has another right side for Nesterov's momentum; "
        "use `momentum` without it",
        "ema_overwrite_frequency": "overwriting the weights by their average during "
        "training is no step of SGD, and FDR1 fails; `use_ema=True` without it works",
    }
    for name, reason in reasons.items():
        value = kwargs.get(name)
        if value:
            raise ValueError(
                f"`{name}` is not supported: {reason}. Received: {name}={value}"
            )
    return {name: value for name, value in kwargs.items() if name not in reasons}


def check_weights(variables):
    """Refuses weights to which the relations do not apply.

    Args:
        variables: List of trainable `keras.Variable`.

    Raises:
        TypeError: If one is not a `keras.Variable`.
        ValueError: Under `ParameterServerStrategy`, and for constraints and half
            precision.
    """
    strategy = tf.distribute.get_strategy()
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        raise ValueError(
            "`ParameterServerStrategy` is not supported: its workers take steps of "
            "their own on weights that others have moved, and Keras 3 does not train "
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
                "of the update outweighs the relations. Use a `mixed_` policy, which "
                f"keeps the weights in float32. Received: {name!r} of {variable.dtype}"
            )
