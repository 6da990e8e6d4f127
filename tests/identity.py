"""The exact identity of every run, without expectation or tolerance but rounding.

    Σ_t (O_L − O_R) = −[Q(T) − Q(0)],
    Q = [ (1−μ)/(2η) |θ−θ_c|² + μ (θ−θ_c)·v ] / (1−ν)

It follows from eqs. (10) and (11) alone, for any loss and any gradients. Q is computed
here in NumPy's float64 from the weights; it shares no code with the package.
"""

import keras
import numpy as np

UNIT_ROUNDOFF = 2.0**-24  # of float32


class Snapshot(keras.callbacks.Callback):
    """Keeps weights and velocities of the last epoch's end.

    Keras puts the moving average in the weights' place after that (`use_ema`).
    """

    def on_epoch_end(self, epoch, logs=None):
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        self.theta = arrays(self.model.trainable_variables)
        self.velocity = arrays(optimizer.velocities) or zeros(self.theta)


def arrays(variables):
    return [v.numpy().astype("float64") for v in variables]


def zeros(theta):
    return [np.zeros_like(w) for w in theta]


def dot(a, b):
    return float(sum((x * y).sum() for x, y in zip(a, b, strict=True)))


def q(theta, velocity, theta_c, eta, mu, nu):
    away = [w - c for w, c in zip(theta, theta_c, strict=True)]
    square, cross = dot(away, away), dot(away, velocity)
    return ((1 - mu) / (2 * eta) * square + mu * cross) / (1 - nu)


def residual(record, before, after, optimizer, theta_c):
    """|Σ(O_L − O_R) + Q(T) − Q(0)| / Σ|O_R|; `before`, `after`: (θ, v)."""
    eta, mu, nu = record.learning_rate, optimizer.momentum, optimizer.dampening
    change = q(*after, theta_c, eta, mu, nu) - q(*before, theta_c, eta, mu, nu)
    dissipation, fluctuation = record.sums[:, :2].sum(axis=0)
    return abs(dissipation - fluctuation + change) / fluctuation


def rounding_bound(record, after, optimizer, theta_c):
    """What float32 can add to the residual.

    θ + ηv is rounded by at most u|θ_i| a step, which moves Q by up to
    (1−μ)/(η(1−ν)) Σ_i |θ_i−θ_c,i| u |θ_i|; the rows are sums of products, each good
    to a few u.
    """
    eta, mu, nu = record.learning_rate, optimizer.momentum, optimizer.dampening
    theta = after[0]
    reach = sum(
        (np.abs(w - c) * np.abs(w)).sum() for w, c in zip(theta, theta_c, strict=True)
    )
    step = (1 - mu) / (eta * (1 - nu)) * reach * UNIT_ROUNDOFF
    dissipation, fluctuation = np.abs(record.sums[:, :2]).sum(axis=0)
    rows = 8 * UNIT_ROUNDOFF * (dissipation + fluctuation)
    return (record.steps * step + rows) / fluctuation
