"""The learning-rate schedules that `schedules.py` compares, each with its settings.

The first setting of a way is its default: the paper's for its rule and the preset
steps, the publication's factor for SASA, Keras' own for `ReduceLROnPlateau` and Adam.
Every way has the same number of settings to be tuned over. SGD is without momentum, as
in section 3.3 of the paper, and starts at its η = 0.1 unless η is all there is to tune.
"""

import math

import keras

from keras_fdr import FDRSGD, ConfidenceRule, DriftRule, FDRCallback, ThresholdRule

LEARNING_RATE = 0.1

WAYS = {
    "paper's rule": (
        {"threshold": 0.01, "factor": 0.9},
        {"threshold": 0.05, "factor": 0.7},
        {"threshold": 0.05, "factor": 0.5},
    ),
    "SASA": (
        {"kind": "sasa", "factor": 0.1},
        {"kind": "sasa", "factor": 0.5},
        {"kind": "sasa+", "factor": 0.1},
    ),
    "DriftRule": ({"factor": 0.9}, {"factor": 0.7}, {"factor": 0.5}),
    "constant": ({"eta": 0.1}, {"eta": 0.3}, {"eta": 0.03}),
    # ÷ 10 at these fractions of the epochs.
    "preset": (
        {"at": [1 / 4, 1 / 2, 3 / 4]},
        {"at": [1 / 3, 2 / 3]},
        {"at": [1 / 2, 3 / 4]},
    ),
    "cosine": ({"eta": 0.1}, {"eta": 0.3}, {"eta": 0.03}),
    "plateau": (
        {"factor": 0.1, "patience": 10},
        {"factor": 0.1, "patience": 3},
        {"factor": 0.5, "patience": 2},
    ),
    "Adam": ({"eta": 0.001}, {"eta": 0.003}, {"eta": 0.0003}),
}
RULES = ("paper's rule", "SASA", "DriftRule")


def start(way, setting, epochs, steps):
    """A fresh optimizer and the callbacks that set its learning rate.

    Args:
        way: A key of `WAYS`.
        setting: One of its settings.
        epochs: Integer, of the whole run.
        steps: Integer, of an epoch.

    Returns:
        The optimizer and a list of callbacks.
    """
    sgd = keras.optimizers.SGD
    if way in RULES:
        rule = {
            "paper's rule": lambda: ThresholdRule(setting["threshold"]),
            "SASA": lambda: ConfidenceRule(setting["kind"]),
            "DriftRule": DriftRule,
        }[way]()
        callback = FDRCallback(rule=rule, factor=setting["factor"])
        return FDRSGD(LEARNING_RATE), [callback]
    if way == "Adam":
        return keras.optimizers.Adam(setting["eta"]), []
    if way == "cosine":
        schedule = keras.optimizers.schedules.CosineDecay
        return sgd(schedule(setting["eta"], epochs * steps)), []
    if way == "plateau":
        # It sees the held-out images, never the test set.
        callback = keras.callbacks.ReduceLROnPlateau("val_loss", **setting)
        return sgd(LEARNING_RATE), [callback]
    if way == "preset":
        at = [math.ceil(fraction * epochs) for fraction in setting["at"]]
        callback = keras.callbacks.LearningRateScheduler(
            lambda epoch, _: LEARNING_RATE / 10 ** sum(epoch >= cut for cut in at)
        )
        return sgd(LEARNING_RATE), [callback]
    return sgd(setting["eta"]), []


def describe(setting):
    """A setting in words."""
    values = {
        name: ", ".join(f"{v:.2g}" for v in value) if isinstance(value, list) else value
        for name, value in setting.items()
    }
    return ", ".join(f"{name} {value}" for name, value in values.items())
