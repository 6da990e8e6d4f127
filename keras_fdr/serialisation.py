"""Callbacks and rules as configurations that can be written as JSON."""

import keras

from keras_fdr.rules import ConfidenceRule, DriftRule, ThresholdRule

# Here, since the rules know nothing of Keras.
for rule in (ThresholdRule, ConfidenceRule, DriftRule):
    keras.saving.register_keras_serializable(package="keras_fdr")(rule)

_PLAIN = (
    "decay",
    "min_learning_rate",
    "stop_at_minimum",
    "reset_velocities_on_cut",
    "verbose",
)


def callback_config(callback, full_batch):
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


def callback_arguments(config):
    """The constructor's arguments from what `callback_config` gave."""
    return {**config, "rule": keras.saving.deserialize_keras_object(config["rule"])}
