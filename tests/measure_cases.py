"""Optimizers, settings and an independent replay for the tests of `measure`."""

import keras
import numpy as np

optimizers = keras.optimizers
schedules = optimizers.schedules

# Every optimizer of Keras, with a rate at which the weights move well.
OPTIMIZERS = {
    "SGD": lambda rate=0.05, **k: optimizers.SGD(rate, **k),
    "SGD momentum": lambda rate=0.05, **k: optimizers.SGD(rate, momentum=0.9, **k),
    "SGD Nesterov": lambda rate=0.05, **k: optimizers.SGD(
        rate, momentum=0.9, nesterov=True, **k
    ),
    "RMSprop": lambda rate=0.01, **k: optimizers.RMSprop(rate, momentum=0.5, **k),
    "Adam": lambda rate=0.01, **k: optimizers.Adam(rate, **k),
    "AdamW": lambda rate=0.01, **k: optimizers.AdamW(
        rate, **{"weight_decay": 0.01, **k}
    ),
    "Adadelta": lambda rate=1.0, **k: optimizers.Adadelta(rate, **k),
    "Adagrad": lambda rate=0.1, **k: optimizers.Adagrad(rate, **k),
    "Adamax": lambda rate=0.01, **k: optimizers.Adamax(rate, **k),
    "Adafactor": lambda rate=0.01, **k: optimizers.Adafactor(rate, **k),
    "Nadam": lambda rate=0.01, **k: optimizers.Nadam(rate, **k),
    "Ftrl": lambda rate=0.1, **k: optimizers.Ftrl(rate, **k),
    "Lion": lambda rate=0.003, **k: optimizers.Lion(rate, **k),
    "Lamb": lambda rate=0.01, **k: optimizers.Lamb(rate, **k),
    "Muon": lambda rate=0.01, **k: optimizers.Muon(rate, **k),
    "ScheduleFreeAdamW": lambda rate=0.01, **k: optimizers.ScheduleFreeAdamW(rate, **k),
}

# How the learning rate runs: a function of the constant rate.
RATES = {
    "constant": lambda rate: rate,
    "cosine": lambda rate: schedules.CosineDecay(rate, 40),
    "warm-up": lambda rate: schedules.CosineDecay(
        rate / 100, 60, warmup_target=rate, warmup_steps=8
    ),
}

SETTINGS = {
    "plain": {},
    "clipnorm": {"clipnorm": 0.1},
    "weight_decay": {"weight_decay": 0.02},
    "ema": {"use_ema": True, "ema_momentum": 0.9},
    "ema overwrites": {
        "use_ema": True,
        "ema_momentum": 0.5,
        "ema_overwrite_frequency": 3,
    },
    "accumulation": {"gradient_accumulation_steps": 2},
}


class Weights(keras.callbacks.Callback):
    """Keeps the weights before the first step and after each."""

    def __init__(self):
        super().__init__()
        self.theta = []

    def flat(self):
        weights = [w.numpy().ravel() for w in self.model.trainable_weights]
        return np.concatenate(weights).astype("float64")

    def on_train_batch_begin(self, batch, logs=None):
        if not self.theta:
            self.theta.append(self.flat())

    def on_train_batch_end(self, batch, logs=None):
        self.theta.append(self.flat())


def network(optimizer, dtype="float32", constraint=None, seed=0, **compiled):
    """A compiled model with the same weights each time."""
    keras.utils.set_random_seed(seed)
    # Keras adds regularisers of float64 layers to a float32 loss, which fails.
    l2 = None if dtype == "float64" else keras.regularizers.L2(0.005)
    layers = [
        keras.Input((4,), dtype=dtype),
        keras.layers.Dense(
            6,
            name="first",
            activation="tanh",
            dtype=dtype,
            kernel_constraint=constraint,
            kernel_regularizer=l2,
        ),
        keras.layers.Dense(2, dtype=dtype, name="second"),
    ]
    model = keras.Sequential(layers, name="net")
    model.compile(optimizer, loss="mse", **compiled)
    return model


def data(examples=40):
    rng = np.random.default_rng(3)
    return rng.normal(size=(examples, 4)), rng.normal(size=(examples, 2))


def displacement_sums(theta, beta):
    """Σ O_L and Σ O_R over the run, in NumPy, from the weights alone."""
    steps = np.diff(theta, axis=0)
    a = np.sum(theta[:-1] * steps, axis=1)
    b = np.sum(steps**2, axis=1)
    before = np.concatenate([[0.0], a[:-1] + b[:-1]])
    return np.sum(beta * before - a), np.sum((1 + beta) / 2 * b)


def drift(theta, beta):
    """Q(T) − Q(0), which the difference of the sums must be, with the other sign."""
    end, last = theta[-1], theta[-1] - theta[-2]
    q_end = (1 - beta) / 2 * end @ end + beta * end @ last
    return q_end - (1 - beta) / 2 * theta[0] @ theta[0]
