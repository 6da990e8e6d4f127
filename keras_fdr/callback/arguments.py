"""What `FDRCallback` takes and refuses, and its configuration."""

import math
import numbers

import keras
import numpy as np

from keras_fdr.callback.final_decay import FinalDecay
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
    _check_number("threshold", threshold, "above 0", lambda x: x > 0)
    if factor is not None:
        rule_of_factor = "in (0, 1), or None to measure without cutting"
        _check_number("factor", factor, rule_of_factor, lambda x: 0 < x < 1)
    _check_number("min_lr", min_lr, "at least 0", lambda x: x >= 0)
    _check_integer("full_batch_every", full_batch_every, 1)
    _check_integer("verbose", verbose, 0)
    _check_boolean("stop_at_minimum", stop_at_minimum)
    _check_boolean("reset_velocities_on_cut", reset_velocities_on_cut)
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
    if rule is not None and not callable(rule):
        raise TypeError(
            f"`rule` must be a function `Record -> Verdict`. Received: rule={rule!r}"
        )
    if on_stationary is not None and not callable(on_stationary):
        raise TypeError(
            "`on_stationary` must be a function `(model, verdict)`. "
            f"Received: on_stationary={on_stationary!r}"
        )
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


def check_final_decay(final_decay, factor, on_stationary, stop_at_minimum):
    """Refuses what is not a `FinalDecay`, and arguments that it contradicts.

    Raises:
        TypeError: If it is something else.
        ValueError: If cuts were asked for as well.
    """
    if final_decay is None:
        return
    if not isinstance(final_decay, FinalDecay):
        raise TypeError(
            "`final_decay` must be a `FinalDecay`, as in "
            f"`final_decay=FinalDecay(share=0.25)`. Received: {final_decay!r}"
        )
    cuts = factor not in (None, DEFAULT_FACTOR)
    if cuts or on_stationary or stop_at_minimum:
        raise ValueError(
            "`final_decay` begins, instead of a cut, when the run is stationary: leave "
            "out `factor` (or pass `factor=None`, and it begins only as planned), "
            f"`on_stationary` and `stop_at_minimum`. Received: factor={factor}, "
            f"on_stationary={on_stationary}, stop_at_minimum={stop_at_minimum}"
        )


def _check_number(name, value, rule, holds):
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not (math.isfinite(value) and holds(value)):
        error = ValueError if number else TypeError
        kind = "" if number else "a number "
        raise error(f"`{name}` must be {kind}{rule}. Received: {name}={value!r}")


def _check_integer(name, value, least):
    number = isinstance(value, numbers.Real)
    if not (number and math.isfinite(value) and value == int(value) >= least):
        error = ValueError if number else TypeError
        raise error(
            f"`{name}` must be an integer, at least {least}. Received: {name}={value!r}"
        )


def _check_boolean(name, value):
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"`{name}` must be True or False. Received: {name}={value!r}")


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
    objects = {"rule": callback.rule, "final_decay": callback.final_decay}
    return {
        **{k: keras.saving.serialize_keras_object(v) for k, v in objects.items()},
        **{name: getattr(callback, name) for name in _PLAIN},
    }


def arguments_of(config):
    """The constructor's arguments from what `config_of` gave."""
    # Configurations of older code have no final decay.
    objects = {"rule": config["rule"], "final_decay": config.get("final_decay")}
    return {
        **config,
        **{k: keras.saving.deserialize_keras_object(v) for k, v in objects.items()},
    }
