"""Exact stationary moments of Keras' SGD in the form for any optimizer."""

import numpy as np
from oracles import AffineMoments


class DisplacementMoments(AffineMoments):
    """⟨O_L⟩ and ⟨O_R⟩ from the displacements of `keras.optimizers.SGD`.

    With m the optimizer's momentum variable, a step is

        m(t+1) = μ m(t) − η ∇f^B,   Δ(t) = μ m(t+1) − η ∇f^B with Nesterov's form,
                                    Δ(t) = m(t+1) otherwise,

    which is linear in u = (θ − θ*, m, Δ(t−1), 1). Each mini-batch of the given size is
    equally likely.

    Args:
        problem: `LeastSquares`.
        learning_rate: η.
        momentum: μ.
        nesterov: Boolean, whether the step has Nesterov's form.
        batch_size: Number of different examples in a mini-batch.

    Raises:
        AssertionError: If there is no stationary state with second moments.
    """

    def __init__(self, problem, learning_rate, momentum, nesterov, batch_size):
        self._eta, self._minimiser = learning_rate, problem.minimiser
        h, c = problem.gradients(batch_size)
        n, p = c.shape
        self._theta, m, self._before = np.split(np.eye(3 * p, 3 * p + 1), 3)
        constant = h @ self._minimiser - c
        others = np.zeros((n, p, 2 * p))
        g = np.concatenate([h, others, constant[:, :, None]], axis=2)
        m_next = momentum * m - learning_rate * g
        look_ahead = momentum * m_next - learning_rate * g
        self._displacement = look_ahead if nesterov else m_next
        theta_next = self._theta + self._displacement
        step = np.concatenate([theta_next, m_next, self._displacement], axis=1)
        super().__init__(step[:, :, :-1], step[:, :, -1])

    def dissipation(self, beta, theta_c=0.0):
        """⟨O_L⟩ = ⟨β (θ−θ_c)·Δ(t−1) − (θ−θ_c)·Δ(t)⟩/η."""
        away = self._theta.copy()
        away[:, -1] = self._minimiser - theta_c
        moved = beta * self._before - self._displacement
        return self._product(away, moved) / self._eta

    def fluctuation(self, beta):
        """⟨O_R⟩ = ½ (1+β) ⟨|Δ(t)|²⟩/η."""
        square = self._product(self._displacement, self._displacement)
        return (1 + beta) / 2 * square / self._eta
