"""What `FDRCallback` takes and refuses, and its configuration."""

import keras

from keras_fdr.arguments import (
    check_boolean,
    check_callable,
    check_integer,
    check_number,
    check_verbosity,
)
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
    reset_velocities_on_cut,
    verbose,
):
    """Refuses values out of range, and arguments that contradict each other.

    Raises:
        ValueError: If one is out of range, or needs another.
        TypeError: If one is of a wrong type.
    """
    check_number("threshold", threshold, 0)
    if factor is not None:
        check_number("factor", factor, 0, 1)
    check_number("min_lr", min_lr, 0, low_allowed=True)
    check_integer("full_batch_every", full_batch_every, 1)
    check_verbosity(verbose)
    check_boolean("stop_at_minimum", stop_at_minimum)
    check_boolean("reset_velocities_on_cut", reset_velocities_on_cut)
    if stop_at_minimum and not (factor and min_lr):
        raise ValueError(
            "`stop_at_minimum` needs a `factor` and a `min_lr` above 0, "
            "otherwise the minimum is never reached. Received: "
            f"factor={factor}, min_lr={min_lr}"
        )
    if rule is not None and threshold != DEFAULT_THRESHOLD:
        raise ValueError(
            "`threshold` belongs to the default rule: pass it to `rule` instead. "
            f"Received: threshold={threshold}, rule={rule}"
        )
    if isinstance(rule, type):
        raise TypeError(
            "`rule` must be a rule, not a class of rules: call the class, as in "
            f"`rule={rule.__name__}()`. Received: rule={rule}"
        )
    check_callable("rule", rule, "a function `Record -> Verdict`")
    check_callable("on_stationary", on_stationary, "a function `(model, verdict)`")
    if on_stationary and (factor, min_lr) != (DEFAULT_FACTOR, 0):
        raise ValueError(
            "`on_stationary` is called instead of a cut: leave out `factor` and "
            "`min_lr`. Received: "
            f"factor={factor}, min_lr={min_lr}"
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
