"""Exact stationary moments of SGD on a least-squares problem.

With a handful of examples all mini-batches can be enumerated. The gradient of each is
affine in θ, so (θ, v) is an affine random recursion, and its stationary first and
second moments solve two linear systems. The noise is neither Gaussian nor independent
of θ. NumPy's float64 only; shares no code with the package.
"""

import copy
import itertools
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """f(θ) = mean_α ½(x_α·θ − y_α)² + ½λ|θ|².

    Args:
        x: Array of shape `(examples, P)`.
        y: Array of shape `(examples,)`.
        l2: λ.
    """

    x: np.ndarray
    y: np.ndarray
    l2: float = 0.0

    @property
    def minimiser(self):
        """θ* of the full batch."""
        h, c = self.gradients(len(self.y))
        return np.linalg.solve(h[0], c[0])

    def loss(self, theta):
        """f(θ) of the full batch, L2 term included."""
        residual = self.x @ theta - self.y
        return float(np.mean(residual**2) + self.l2 * theta @ theta) / 2

    def batches(self, size):
        """All sets of `size` different examples, shape `(batches, size)`."""
        return np.array(list(itertools.combinations(range(len(self.y)), size)))

    def gradients(self, size):
        """H_B, shape `(batches, P, P)`, and c_B, `(batches, P)`: ∇f^B = H_B θ − c_B."""
        batches = self.batches(size)
        x, y = self.x[batches], self.y[batches]
        h = np.einsum("abi,abj->aij", x, x) / size + self.l2 * np.eye(x.shape[-1])
        return h, np.einsum("abi,ab->ai", x, y) / size


class AffineMoments:
    """The stationary moments of s(t+1) = A_B s(t) + b_B, each B equally likely.

    With u = (s, 1), products of linear functions of u are known from U = ⟨u uᵀ⟩:
    ⟨(A u)·(C u)⟩ = Tr(A U Cᵀ). Each B is drawn independently of all other steps.

    Args:
        a: Array of shape `(batches, n, n)`, A_B.
        b: Array of shape `(batches, n)`, b_B.

    Raises:
        AssertionError: If there is no stationary state with second moments.
    """

    def __init__(self, a, b):
        self._a, self._b = a, b
        batches, n = b.shape
        # m = ⟨s⟩ = ⟨A⟩m + ⟨b⟩ and S = ⟨s sᵀ⟩ = ⟨A S Aᵀ⟩ + ⟨A m bᵀ⟩ + ⟨b mᵀ Aᵀ⟩ + ⟨b bᵀ⟩
        # with averages over B.
        relaxation = self.power_mean(2)
        assert np.abs(np.linalg.eigvals(relaxation)).max() < 1, "no stationary state"
        m = np.linalg.solve(np.eye(n) - self.power_mean(1), b.mean(axis=0))
        a_m_b = np.einsum("aij,j,ak->ik", a, m, b) / batches
        known = a_m_b + a_m_b.T + np.einsum("ai,ak->ik", b, b) / batches
        s = np.linalg.solve(np.eye(n * n) - relaxation, known.ravel())
        self._u = _second_moment(m, s.reshape(n, n))

    def power_mean(self, order):
        """⟨A_B ⊗ … ⊗ A_B⟩, `order` factors: what moments of that order relax by."""
        total = 0.0
        for a in self._a:
            power = np.ones((1, 1))
            for _ in range(order):
                power = np.kron(power, a)
            total = total + power
        return total / len(self._a)

    def _product(self, a, c):
        """⟨(A u)·(C u)⟩; a matrix of each mini-batch has a leading axis."""
        per_batch = np.einsum("...ij,jk,...ik->...", a, self._u, c)
        return float(np.mean(per_batch))


class StationaryMoments(AffineMoments):
    """Exact averages in the stationary state of eqs. (10) and (11).

    With u = (θ − θ*, v, 1) a step with mini-batch B is linear, u(t+1) = M_B u(t), and
    every observable here is a sum of products of linear functions of u. Each B of the
    given size is equally likely.

    Args:
        problem: `LeastSquares`.
        learning_rate: η.
        momentum: μ.
        dampening: ν.
        batch_size: Number of different examples in a mini-batch.

    Raises:
        AssertionError: If there is no stationary state with second moments.
    """

    def __init__(self, problem, learning_rate, momentum, dampening, batch_size):
        self.eta, self.mu, self.nu = learning_rate, momentum, dampening
        self._minimiser = problem.minimiser
        self._loss_minimum = problem.loss(self._minimiser)
        h, c = problem.gradients(batch_size)
        n, p = c.shape
        self._hessian = h.mean(axis=0)
        # θ − θ*, v(t), ∇f^B, ∇f and v(t+1) as linear functions of u(t).
        self._theta, self._v = np.split(np.eye(2 * p, 2 * p + 1), 2)
        constant = h @ self._minimiser - c
        self._g = np.concatenate([h, np.zeros((n, p, p)), constant[:, :, None]], axis=2)
        self._grad_f = self._g.mean(axis=0)
        self._v_next = momentum * self._v - (1 - dampening) * self._g  # eq. (10)
        theta_next = self._theta + learning_rate * self._v_next  # eq. (11)
        step = np.concatenate([theta_next, self._v_next], axis=1)
        super().__init__(step[:, :, :-1], step[:, :, -1])  # M_B = [[A, b], [0, 1]]

    def from_start(self, theta, steps):
        """The moments before stationarity, averaged over the last half of a run.

        Args:
            theta: The weights at the start, where v = 0.
            steps: Length of the run, even.

        Returns:
            `StationaryMoments` whose averages are the expected half-running averages
            of such a run, eq. (15).
        """
        m = np.concatenate([theta - self._minimiser, np.zeros(len(theta))])
        u = _second_moment(m, np.outer(m, m))
        last = np.broadcast_to(np.eye(len(u))[-1:], (len(self._a), 1, len(u)))
        step = np.concatenate([self._a, self._b[:, :, None]], axis=2)
        step = np.concatenate([step, last], axis=1)  # M_B
        late = []
        for t in range(steps):
            if t >= steps // 2:
                late.append(u)
            u = (step @ u @ step.transpose(0, 2, 1)).mean(axis=0)
        run = copy.copy(self)
        run._u = np.mean(late, axis=0)
        return run

    def _away_from(self, theta_c):
        """θ − θ_c as a linear function of u."""
        away = self._theta.copy()
        away[:, -1] = self._minimiser - theta_c
        return away

    @property
    def theta(self):
        """⟨θ⟩."""
        return self._minimiser + self._theta @ self._u[:, -1]

    @property
    def theta_squared(self):
        """⟨|θ|²⟩."""
        return self._product(self._away_from(0.0), self._away_from(0.0))

    @property
    def loss(self):
        """⟨f^B⟩ = ⟨f⟩ = f(θ*) + ½⟨(θ−θ*)ᵀ H (θ−θ*)⟩."""
        curved = self._product(self._theta, self._hessian @ self._theta)
        return self._loss_minimum + curved / 2

    def dissipation(self, theta_c=0.0):
        """⟨O_L⟩ = ⟨(θ−θ_c)·∇f^B⟩, eq. (17)."""
        return self._product(self._away_from(theta_c), self._g)

    @property
    def fluctuation(self):
        """⟨O_R⟩ = (1+μ)/(2(1−ν)) η ⟨|v(t+1)|²⟩, eq. (17)."""
        factor = (1 + self.mu) / (2 * (1 - self.nu)) * self.eta
        return factor * self._product(self._v_next, self._v_next)

    @property
    def velocity_gradient(self):
        """⟨v(t)·∇f^B⟩, footnote 5; ⟨v·∇f⟩ as well, since B is independent of v(t)."""
        return self._product(self._v, self._g)

    @property
    def velocity_full_gradient(self):
        """⟨v(t)·∇f⟩, with the full-batch gradient."""
        return self._product(self._v, self._grad_f)

    @property
    def gradient_norm_squared(self):
        """Tr C̃ = ⟨|∇f^B|²⟩, eq. (3)."""
        return self._product(self._g, self._g)

    @property
    def full_gradient_norm_squared(self):
        """⟨|∇f|²⟩."""
        return self._product(self._grad_f, self._grad_f)

    @property
    def full_batch_dissipation(self):
        """⟨O_FB⟩ = (1−ν)⟨|∇f|²⟩ − μ⟨v·∇f⟩."""
        v_grad_f = self.velocity_full_gradient
        return (1 - self.nu) * self.full_gradient_norm_squared - self.mu * v_grad_f

    @property
    def noise_curvature(self):
        """Tr(H C̃) = ⟨∇f^Bᵀ H ∇f^B⟩."""
        return self._product(self._g, self._hessian @ self._g)

    @property
    def velocity_curvature(self):
        """⟨v(t+1)ᵀ H v(t+1)⟩."""
        return self._product(self._v_next, self._hessian @ self._v_next)


def _second_moment(m, s):
    """⟨u uᵀ⟩ of u = (s, 1), from ⟨s⟩ and ⟨s sᵀ⟩."""
    return np.block([[s, m[:, None]], [m[None, :], np.ones((1, 1))]])
