"""What `FDRCallback` takes and refuses, and its configuration."""

import math

import keras

from keras_fdr.rules import ConfidenceRule, DriftRule, ThresholdRule

# Here, since the rules know nothing of Keras.
for rule in (ThresholdRule, ConfidenceRule, DriftRule):
    keras.saving.register_keras_serializable(package="keras_fdr")(rule)

DEFAULT_THRESHOLD = 0.01
DEFAULT_FACTOR = 0.9

_PLAIN = (
    "factor",
    "min_lr",
    "stop_at_minimum",
    "reset_velocities_on_cut",
    "verbose",
)


def check_arguments(
    threshold,
    factor,
    rule,
    on_stationary,
    full_batch,
    full_batch_every,
    min_lr,
    stop_at_minimum,
):
    """Refuses values out of range, and arguments that contradict each other.

    Raises:
        ValueError: If one is out of range, or needs another.
        TypeError: If `rule` or `on_stationary` is no function.
    """
    if factor is not None and not 0 < factor < 1:
        raise ValueError(
            "`factor` must be in (0, 1), or None to measure without cutting. "
            f"Received: factor={factor}"
        )
    if not 0 <= min_lr < math.inf:
        raise ValueError(f"`min_lr` must be at least 0. Received: min_lr={min_lr}")
    if stop_at_minimum and not (factor and min_lr):
        raise ValueError(
            "`stop_at_minimum` needs a `factor` and a `min_lr` above 0, "
            "else the minimum is never reached. Received: "
            f"factor={factor}, min_lr={min_lr}"
        )
    if rule is not None and threshold != DEFAULT_THRESHOLD:
        raise ValueError(
            "`threshold` belongs to the default rule: pass it to `rule` instead. "
            f"Received: threshold={threshold}, rule={rule}"
        )
    if rule is not None and not callable(rule):
        raise TypeError(
            f"`rule` must be a function `Record -> Verdict`. Received: rule={rule}"
        )
    if on_stationary is not None and not callable(on_stationary):
        raise TypeError(
            "`on_stationary` must be a function `(model, verdict)`. "
            f"Received: on_stationary={on_stationary}"
        )
    if on_stationary and (factor, min_lr) != (DEFAULT_FACTOR, 0):
        raise ValueError(
            "`on_stationary` is called instead of a cut: leave out `factor` and "
            "`min_lr`. Received: "
            f"factor={factor}, min_lr={min_lr}"
        )
    if full_batch_every < 1 or full_batch_every != int(full_batch_every):
        raise ValueError(
            "`full_batch_every` must be an integer, at least 1. "
            f"Received: full_batch_every={full_batch_every}"
        )
    if full_batch is None and full_batch_every != 1:
        raise ValueError(
            "`full_batch_every` needs a dataset: pass `full_batch` as well. "
            f"Received: full_batch_every={full_batch_every}"
        )


def config_of(callback, full_batch):
    """The arguments of an `FDRCallback`, from its attributes.

    Args:
        callback: The `FDRCallback`.
        full_batch: Boolean, whether it goes over a dataset.

    Raises:
        ValueError: If one of them is a function or a dataset.
    """
    refused = {
        "rule": None if hasattr(callback.rule, "get_config") else callback.rule,
        "on_stationary": callback.on_stationary,
        "full_batch": "a dataset" if full_batch else None,
    }
    for name, value in refused.items():
        if value is not None:
            raise ValueError(
                "A configuration holds numbers, strings and objects with `get_config`, "
                "no functions and no datasets: make the callback without `"
                f"{name}`, or by its constructor. Received: {name}={value}"
            )
    rule = keras.saving.serialize_keras_object(callback.rule)
    return {"rule": rule, **{name: getattr(callback, name) for name in _PLAIN}}


def arguments_of(config):
    """The constructor's arguments from what `config_of` gave."""
    return {**config, "rule": keras.saving.deserialize_keras_object(config["rule"])}
