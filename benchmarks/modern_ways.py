"""The schedules that `modern_networks.py` compares, all with the same first rate.

Each way has one setting, the same for every network, λ and budget. All but AdamW use
SGD with momentum 0.9. Ways that name `FDRCallback` train with `FDRSGD`; the others
train with Keras' own SGD.
"""

import math

import keras

from keras_fdr import (
    FDRSGD,
    ConfidenceRule,
    DriftRule,
    FDRCallback,
    FinalDecay,
    PflugRule,
    ThresholdRule,
    TwoLooksRule,
)

MOMENTUM = 0.9
ADAMW_RATE, ADAMW_DECAY = 1e-3, 0.05
# Shares of the planned steps.
WARMUP, DECAY = 0.05, 0.2


def quarter(shape):
    """A decay over the last quarter of the epochs."""
    return FinalDecay(0.25, shape, ends_early=True)


# Arguments of `FDRCallback`, made anew for each run.
RULES = {
    "paper": lambda: {"rule": ThresholdRule(0.01)},
    "drift": lambda: {"rule": DriftRule()},
    "sasa": lambda: {"rule": ConfidenceRule("sasa"), "factor": 0.1},
    "pflug": lambda: {"rule": PflugRule(), "factor": 0.1},
    "two looks": lambda: {"rule": TwoLooksRule()},
    "two looks 0.5": lambda: {"rule": TwoLooksRule(), "factor": 0.5},
    "decay linear": lambda: {"factor": None, "final_decay": quarter("linear")},
    "decay sqrt": lambda: {"factor": None, "final_decay": quarter("sqrt")},
    "decay or paper": lambda: {"final_decay": quarter("linear")},
    "decay or two looks": lambda: {
        "rule": TwoLooksRule(),
        "final_decay": quarter("linear"),
    },
    "decay or drift": lambda: {"rule": DriftRule(), "final_decay": quarter("linear")},
    "half": lambda: {"factor": None, "final_decay": FinalDecay(0.5, "sqrt")},
    "half or paper": lambda: {"final_decay": FinalDecay(0.5, "sqrt", True)},
    "half or drift": lambda: {
        "rule": DriftRule(),
        "final_decay": FinalDecay(0.5, "sqrt", True),
    },
    "recommended": lambda: {
        "rule": TwoLooksRule(),
        "final_decay": FinalDecay(0.25, "sqrt"),
    },
    "recommended short": lambda: {
        "rule": TwoLooksRule(),
        "final_decay": FinalDecay(0.25, "sqrt", True),
    },
}
WAYS = ("constant", "cosine", "steps", "wsd", "plateau", "adamw", *RULES)
# The best of these at the same budget is what a way is compared with.
BASELINES = ("cosine", "steps", "wsd")


@keras.saving.register_keras_serializable(package="benchmarks")
class WarmupStableDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up, a constant rate, and a decay as 1 − √x."""

    def __init__(self, rate, steps):
        self.rate, self.steps = rate, steps

    def __call__(self, step):
        """The rate of a step."""
        ops = keras.ops
        done = ops.cast(step, "float32") / self.steps
        decay = ops.clip((done - 1 + DECAY) / DECAY, 0.0, 1.0)
        return self.rate * ops.minimum(done / WARMUP, 1.0) * (1 - ops.sqrt(decay))

    def get_config(self):
        """The constructor's arguments."""
        return {"rate": self.rate, "steps": self.steps}


def start(way, rate, epochs, steps):
    """A fresh optimizer and the callbacks that set its learning rate.

    Args:
        way: One of `WAYS`.
        rate: Float, the first learning rate of SGD.
        epochs: Integer, of the whole run.
        steps: Integer, of an epoch.

    Returns:
        The optimizer and a list of callbacks.
    """
    if way in RULES:
        return FDRSGD(rate, MOMENTUM), [FDRCallback(**RULES[way]())]
    schedules = keras.optimizers.schedules
    if way == "adamw":
        cosine = schedules.CosineDecay(ADAMW_RATE, epochs * steps)
        return keras.optimizers.AdamW(cosine, weight_decay=ADAMW_DECAY), []
    callbacks = []
    if way == "cosine":
        rate = schedules.CosineDecay(rate, epochs * steps)
    elif way == "steps":
        at = [math.ceil(share * epochs) * steps for share in (0.5, 0.75)]
        rate = schedules.PiecewiseConstantDecay(at, [rate, rate / 10, rate / 100])
    elif way == "wsd":
        rate = WarmupStableDecay(rate, epochs * steps)
    elif way == "plateau":
        patience = max(2, epochs // 8)
        callbacks = [keras.callbacks.ReduceLROnPlateau("val_loss", 0.1, patience)]
    return keras.optimizers.SGD(rate, MOMENTUM), callbacks
