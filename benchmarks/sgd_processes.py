"""SGD on two losses whose ensemble mean is known exactly; see `processes.py`."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np


class _SGDChain:
    """Eqs. (10), (11) at ν = 0 with normal gradient noise."""

    def __init__(self, process, theta, velocity, center, rng):
        self.process, self.rng = process, rng
        self.theta, self.velocity, self.center = theta, velocity, center

    def q(self):
        mu, eta = self.process.momentum, self.process.learning_rate
        away = self.theta - self.center
        return np.sum((1 - mu) / (2 * eta) * away**2 + mu * away * self.velocity, 1)

    def step(self):
        mu, eta = self.process.momentum, self.process.learning_rate
        loss, gradient = self.process.loss_and_gradient(self.theta)
        noise = self.rng.normal(size=self.theta.shape)
        gradient = gradient + self.process.noise * noise
        velocity = mu * self.velocity - gradient

        def dot(a, b):
            return np.einsum("ij,ij->i", a, b)

        rows = [
            dot(self.theta - self.center, gradient),
            (1 + mu) / 2 * eta * dot(velocity, velocity),
            dot(self.velocity, gradient),
            dot(gradient, gradient),
            loss,
        ]
        self.theta, self.velocity = self.theta + eta * velocity, velocity
        return np.stack(rows, axis=1)


@dataclass(frozen=True)
class Quadratic:
    """f = ½ Σ k_i (θ_i − θ*_i)², noise of variance 1 in each direction.

    The k_i are log-spaced up to 1, and η = 0.1 (1−μ). In units of the stationary
    deviation of θ_i, θ*_i is ±3 and the start θ*_i ± 4, the signs drawn once.
    `start_at="across"` starts at −θ*: then |θ|² falls before it rises to nearly its
    first value, and the ratio passes 1 on the way.

    Args:
        dimensions: Their number.
        decades: The k_i reach down to 10^−decades.
        momentum: μ.
        center: θ_c, `"zero"` or `"start"`.
        start_at: `"side"` or `"across"`.
    """

    dimensions: int
    decades: float
    momentum: float = 0.0
    center: str = "zero"
    start_at: str = "side"
    noise = 1.0

    @property
    def name(self):
        """Name in tables."""
        name = f"quadratic {self.dimensions}d, μ={self.momentum:g}"
        name += ", θ_c=start" if self.center == "start" else ""
        return name + (", across" if self.start_at == "across" else "")

    @property
    def learning_rate(self):
        """η; the slowest direction relaxes about equally fast for each μ."""
        return 0.1 * (1 - self.momentum)

    @cached_property
    def curvatures(self):
        """The k_i."""
        return np.logspace(-self.decades, 0, self.dimensions)

    @cached_property
    def _signs(self):
        return np.random.default_rng(0).choice([-1.0, 1.0], (2, self.dimensions))

    @cached_property
    def _step(self):
        """(A, b) of the moments' recursion s ← A s + b, s = (⟨x²⟩, ⟨xv⟩, ⟨v²⟩)."""
        k, eta, mu = self.curvatures, self.learning_rate, self.momentum
        x, v = (
            np.stack([1 - eta * k, np.full_like(k, eta * mu)]),
            np.stack([-k, k * 0 + mu]),
        )

        def product(a, b):
            return np.stack([a[0] * b[0], a[0] * b[1] + a[1] * b[0], a[1] * b[1]], -1)

        matrix = np.stack([product(x, x), product(x, v), product(v, v)], axis=1)
        return matrix, np.array([eta**2, eta, 1.0])[:, None]

    @cached_property
    def stationary_moments(self):
        """⟨x²⟩, ⟨xv⟩, ⟨v²⟩ of each direction, x = θ − θ*; shape `(dimensions, 3)`."""
        matrix, kick = self._step
        kicks = np.broadcast_to(kick, (self.dimensions, 3, 1))
        return np.linalg.solve(np.eye(3) - matrix, kicks)[..., 0]

    @cached_property
    def _places(self):
        """θ* and the start."""
        deviation = np.sqrt(self.stationary_moments[:, 0])
        minimum = 3 * deviation * self._signs[0]
        if self.start_at == "across":
            return minimum, -minimum
        return minimum, minimum + 4 * deviation * self._signs[1]

    @property
    def relaxation_time(self):
        """Of ⟨θ⟩ in the slowest direction, in steps."""
        k, eta, mu = self.curvatures.min(), self.learning_rate, self.momentum
        roots = np.linalg.eigvals([[1 - eta * k, eta * mu], [-k, mu]])
        return -1 / math.log(np.abs(roots).max())

    @property
    def stationary_loss(self):
        """⟨f⟩, exact."""
        return float(self.curvatures @ self.stationary_moments[:, 0] / 2)

    def mean_loss(self, steps):
        """⟨f⟩ at steps 1 … `steps`, exact."""
        minimum, start = self._places
        moments = np.zeros((self.dimensions, 3, 1))
        moments[:, 0, 0] = (start - minimum) ** 2
        matrix, kick = self._step
        losses = np.full(steps, self.stationary_loss)
        # After 30 relaxation times nothing is left to compute.
        for t in range(min(steps, math.ceil(30 * self.relaxation_time))):
            losses[t] = self.curvatures @ moments[:, 0, 0] / 2
            moments = matrix @ moments + kick
        return losses

    def loss_and_gradient(self, theta):
        """F of each run, and its exact gradient."""
        pull = self.curvatures * (theta - self._places[0])
        return 0.5 * np.einsum("ij,ij->i", pull, theta - self._places[0]), pull

    def start(self, runs, rng, stationary=False):
        """A chain at the start, or drawn from the stationary distribution."""
        minimum, start = self._places
        shape = (runs, self.dimensions)
        theta, velocity = np.broadcast_to(start, shape), np.zeros(shape)
        if stationary:
            xx, xv, vv = self.stationary_moments.T
            normal = rng.normal(size=(2, *shape))
            theta = minimum + np.sqrt(xx) * normal[0]
            rest = np.sqrt(vv - xv**2 / xx)
            velocity = xv / np.sqrt(xx) * normal[0] + rest * normal[1]
        center = start if self.center == "start" else np.zeros(self.dimensions)
        return _SGDChain(self, theta, velocity, center, rng)


@dataclass(frozen=True)
class DoubleWell:
    """f = Σ_i (x_i² − 1)²/4 + 0.1 x_i + const over 10 coordinates, no momentum.

    η = 0.05 and the noise make a temperature η⟨ξ²⟩/2 = 0.1; the barrier is 0.25. All
    start at 2, fall into the higher well and hop to the lower one: the loss keeps
    falling by hops. The constant makes the minimum 0.

    Args:
        center: θ_c, `"zero"` or `"start"`. |θ|² hardly notices a hop from 1 to −1.
    """

    center: str = "zero"
    coordinates = 10
    momentum = 0.0
    learning_rate = 0.05
    noise = 2.0
    tilt = 0.1

    @property
    def name(self):
        """Name in tables."""
        return "double well" + (", θ_c=start" if self.center == "start" else "")

    def _potential(self, x):
        lowest = -0.102386  # at x = -1.0467
        return (x * x - 1) ** 2 / 4 + self.tilt * x - lowest

    def loss_and_gradient(self, theta):
        """F of each run, and its exact gradient."""
        gradient = theta * (theta * theta - 1) + self.tilt
        return self._potential(theta).sum(axis=1), gradient

    @cached_property
    def _matrix(self):
        """Grid, and the transition matrix of one coordinate, columns summing to 1."""
        x = np.linspace(-3, 3, 301)
        ahead = x - self.learning_rate * (x * (x * x - 1) + self.tilt)
        width = self.learning_rate * self.noise
        matrix = np.exp(-0.5 * ((x[:, None] - ahead[None]) / width) ** 2)
        return x, matrix / matrix.sum(axis=0)

    @cached_property
    def _spectrum(self):
        values, vectors = np.linalg.eig(self._matrix[1])
        order = np.argsort(-np.abs(values))
        density = np.abs(vectors[:, order[0]])
        return np.abs(values[order[1]]), density / density.sum()

    @property
    def relaxation_time(self):
        """Of hopping: from the second eigenvalue of the transition matrix."""
        return -1 / math.log(self._spectrum[0])

    @property
    def stationary_loss(self):
        """⟨f⟩ from the first eigenvector."""
        mean = self._spectrum[1] @ self._potential(self._matrix[0])
        return float(self.coordinates * mean)

    def mean_loss(self, steps):
        """⟨f⟩ at steps 1 … `steps`, from the transition matrix."""
        x, matrix = self._matrix
        density = (np.abs(x - 2) < 1e-9).astype(float)
        losses = np.full(steps, self.stationary_loss)
        for t in range(min(steps, math.ceil(30 * self.relaxation_time))):
            losses[t] = self.coordinates * (density @ self._potential(x))
            density = matrix @ density
        return losses

    def start(self, runs, rng, stationary=False):
        """A chain at 2, or drawn from the stationary distribution on the grid."""
        shape = (runs, self.coordinates)
        theta = np.full(shape, 2.0)
        if stationary:
            theta = rng.choice(self._matrix[0], p=self._spectrum[1], size=shape)
        center = np.full(self.coordinates, 2.0 if self.center == "start" else 0.0)
        return _SGDChain(self, theta, np.zeros(shape), center, rng)
