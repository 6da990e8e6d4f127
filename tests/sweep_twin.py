"""`landscape.sweep` of a least-squares problem again: NumPy's float64, many chains.

Shares no code with the package but the choice of mini-batches, and that only in
`package_epochs`, which draws what `sweep` draws, in the same order.
"""

from typing import NamedTuple

import numpy as np


class Epoch(NamedTuple):
    """The random choices of one epoch, one of each for every chain.

    Args:
        batches: Examples of each step, shape `(steps, chains, batch_size)`.
        at: The step before which the full-batch pass comes, shape `(chains,)`.
        draws: Examples of the gradient and of the Hessian of each draw of the
            curvature, shape `(chains, draws, 2, batch_size)`.
    """

    batches: np.ndarray
    at: np.ndarray
    draws: np.ndarray


def package_epochs(problem, batch_size, independent, seeds, stage, epochs):
    """What `sweep` draws, one chain for each seed; stage 0 is the initial run."""
    from keras_fdr.batches import independent_batches, reshuffled_order, whole_batches
    from keras_fdr.landscape.sweeps.stage_runner import CURVATURE_DRAWS

    examples = len(problem.y)
    steps = examples // batch_size
    for epoch in range(epochs):
        batches, at, draws = [], [], []
        for seed in seeds:
            rng = np.random.default_rng([seed, stage, epoch])
            if independent:
                at.append(rng.integers(1, steps + 1))
                own = independent_batches(rng, examples, batch_size, steps)
            else:
                at.append(steps)
                order = reshuffled_order(rng, examples)
                own = whole_batches(order, batch_size)
            batches.append(own)
            own = independent_batches(rng, examples, batch_size, 2 * CURVATURE_DRAWS)
            draws.append(own.reshape(CURVATURE_DRAWS, 2, batch_size))
        yield Epoch(np.stack(batches, axis=1), np.array(at), np.array(draws))


def own_epochs(rng, problem, batch_size, chains, epochs):
    """Independent batches, by enumeration; 4 draws of the curvature a pass."""
    choices = problem.batches(batch_size)
    steps = len(problem.y) // batch_size
    for _ in range(epochs):
        step, draw = (
            choices[rng.integers(len(choices), size=shape)]
            for shape in ((steps, chains), (chains, 4, 2))
        )
        yield Epoch(step, rng.integers(1, steps + 1, size=chains), draw)


class Twin:
    """Chains of SGD, eqs. (10) and (11), on `oracles.LeastSquares`.

    Args:
        problem: `LeastSquares`.
        momentum: μ.
        dampening: ν.
        theta: The weights at the start, shape `(chains, P)`.
    """

    def __init__(self, problem, momentum, dampening, theta):
        self.problem, self.mu, self.nu = problem, momentum, dampening
        self.theta = np.array(theta, dtype=np.float64)

    def stage(self, eta, epochs, count):
        """Trains from v = 0 for `count` epochs.

        Returns:
            Dictionary from the names in a row of the sweep to arrays of shape
            `(chains,)`: averages over the newest half.
        """
        mu, nu = self.mu, self.nu
        v = np.zeros_like(self.theta)
        passes, at_step, rows, t = [], [], [], 0
        for number, epoch in enumerate(epochs):
            late = number >= count // 2
            measured = np.full((len(v), 4), np.nan)
            for step, batch in enumerate(epoch.batches, start=1):
                g = self._gradient(self.theta, batch)
                v_next = mu * v - (1 - nu) * g  # eq. (10)
                if t >= count * len(epoch.batches) // 2:
                    o_r = (1 + mu) / (2 * (1 - nu)) * eta * _dot(v_next, v_next)
                    v_g = mu and _dot(v, g)
                    o_l, g_g = _dot(self.theta, g), _dot(g, g)
                    rows.append([o_l, o_r, g_g, v_g + np.zeros(len(v))])
                v, self.theta = v_next, self.theta + eta * v_next  # eq. (11)
                t += 1
                now = np.nonzero(late & (epoch.at == step))[0]
                if len(now):
                    draws = epoch.draws[now]
                    measured[now] = self._measure(self.theta[now], v[now], draws)
            if late:
                passes.append(measured)
                at_step.append(number * len(epoch.batches) + epoch.at)
        assert number + 1 == count
        loss, norm, noise, velocity = np.mean(passes, axis=0).T
        o_l, o_r, g_g, v_g = np.mean(rows, axis=0)
        away = at_step - np.mean(at_step, axis=0)
        losses = np.array(passes)[:, :, 0]
        rise = np.sum(away * losses, axis=0) / np.sum(away**2, axis=0)
        return {
            "full_batch_loss": loss,
            "full_batch_gradient_norm_squared": norm,
            "full_batch_velocity_gradient": v_g,  # Footnote 5.
            "full_batch_dissipation": (1 - nu) * norm - mu * v_g,
            "full_batch_drift": -rise / eta,
            "velocity_curvature": velocity,
            "noise_curvature": noise,
            "dissipation": o_l,
            "fluctuation": o_r,
            "gradient_norm_squared": g_g,
        }

    def _measure(self, theta, v, draws):
        problem, mu, nu = self.problem, self.mu, self.nu
        everything = np.arange(len(problem.y))
        grad_f = self._gradient(theta, everything)
        norm = _dot(grad_f, grad_f)
        residual = theta @ problem.x.T - problem.y
        loss = (np.mean(residual**2, axis=1) + problem.l2 * _dot(theta, theta)) / 2
        noise, velocity = 0.0, 0.0
        for first, second in draws.transpose(1, 2, 0, 3):
            g = self._gradient(theta, first)
            v_next = mu * v - (1 - nu) * g
            noise = noise + _dot(g, self._product(g, second))
            velocity = velocity + _dot(v_next, self._product(v_next, second))
        columns = [loss, norm, noise / draws.shape[1], velocity / draws.shape[1]]
        return np.stack(columns, axis=1)

    def _gradient(self, theta, batch):
        """∇f^B with the L2 term."""
        x, y = self.problem.x[batch], self.problem.y[batch]
        residual = np.einsum("...bp,...p->...b", x, theta) - y
        data = np.einsum("...bp,...b->...p", x, residual) / batch.shape[-1]
        return data + self.problem.l2 * theta

    def _product(self, direction, batch):
        """H^B d."""
        x = self.problem.x[batch]
        along = np.einsum("cbp,cp->cb", x, direction)
        data = np.einsum("cbp,cb->cp", x, along) / batch.shape[-1]
        return data + self.problem.l2 * direction


def _dot(a, b):
    return np.einsum("cp,cp->c", a, b)
