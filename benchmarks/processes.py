"""Random processes whose way into stationarity is known exactly.

Each is simulated for many runs at once, at constant learning rate, from a start away
from stationarity. Its ensemble-mean loss is not simulated but computed: in closed form
(`DriftingAR1`, `SlowCrossing`), from the recursion of the second moments (`Quadratic`)
or from the transition matrix (`DoubleWell`). So the truth t* carries no noise.

A process has

- `name`, `relaxation_time` (the slowest, in steps),
- `mean_loss(steps)`: the mean loss at steps 1 … `steps`; `stationary_loss`,
- `start(runs, rng, stationary=False)`: a chain, whose `step()` returns the rows of the
  next step, shape `(runs, 5)`, columns as in `keras_fdr.record.ROW`. The loss is that
  before the step. `chain.q()` is Q at this moment, as the process defines it.
"""

import math
from dataclasses import dataclass

import numpy as np

from benchmarks.sgd_processes import DoubleWell, Quadratic


@dataclass(frozen=True)
class DriftingAR1:
    """Q(t) = m(t) + x(t): a decaying mean m(t) = A exp(−t/τ) and AR(1) noise x.

    σ(x) = 1 and A = 10. O_R is A/τ times 1 + 0.1 · exponential noise, so that the ratio
    starts near 2, and O_L = O_R − [Q(t+1) − Q(t)]. The loss is 1 + 0.1 Q(t), as in a
    quadratic of 200 equal dimensions, where the two are in proportion.
    """

    phi: float
    tau: float
    amplitude: float = 10.0

    @property
    def name(self):
        """Name in tables."""
        return f"AR(1) φ={self.phi:g}, τ={self.tau:g}"

    @property
    def relaxation_time(self):
        """The slower of τ and the noise's own, in steps."""
        own = -1 / math.log(abs(self.phi)) if self.phi else 0.0
        return max(self.tau, own)

    stationary_loss = 1.0

    def mean(self, t):
        """m(t)."""
        return self.amplitude * np.exp(-t / self.tau)

    def mean_loss(self, steps):
        """Mean loss at steps 1 … `steps`."""
        return self.mean_loss_at(np.arange(steps))

    def mean_loss_at(self, t):
        """Mean loss at t."""
        return 1 + 0.1 * self.mean(t)

    @property
    def fluctuation(self):
        """⟨O_R⟩, without its own noise."""
        return self.amplitude / self.tau

    def start(self, runs, rng, stationary=False):
        """A chain at t = 0; its noise is stationary from the start."""
        return _AR1Chain(self, runs, rng, stationary)


@dataclass(frozen=True)
class SlowCrossing(DriftingAR1):
    """A ratio that passes 1 long before the loss is stationary.

    θ relaxes as exp(−u), u = t/τ, in a quadratic of many equal dimensions, from a start
    on the far side of 0. Then |θ|² first shrinks and later grows to its stationary
    value, while the loss only falls. With b the first excess of the loss over its
    stationary value,

        m(t) = A (exp(−2u) − 2p exp(−u)),   loss = 1 + b exp(−2u),
        ratio = 1 + b (exp(−2u) − p exp(−u))/1.1,

    where 1.1 is the mean of O_R's own noise.
    The ratio is 1 at exp(−u) = p, where the loss is still 1 + b p². Afterwards it stays
    below 1, by b p²/4.4 at most. The defaults put the crossing at 1.25 times the
    stationary loss, and leave the ratio within 0.1 of 1 from 1.45 times on.
    """

    excess: float = 4.0
    place: float = 0.25

    @property
    def name(self):
        """Name in tables."""
        return f"slow crossing, τ={self.tau:g}"

    @property
    def fluctuation(self):
        """⟨O_R⟩: A is the scale of Q in units of its noise, b that of the ratio."""
        return 2 * self.amplitude / (self.tau * self.excess)

    def mean(self, t):
        """m(t)."""
        u = np.exp(-t / self.tau)
        return self.amplitude * (u * u - 2 * self.place * u)

    def mean_loss(self, steps):
        """Mean loss at steps 1 … `steps`."""
        return self.mean_loss_at(np.arange(steps))

    def mean_loss_at(self, t):
        """Mean loss at t."""
        return 1 + self.excess * np.exp(-2 * t / self.tau)


class _AR1Chain:
    def __init__(self, process, runs, rng, stationary):
        self.process, self.rng = process, rng
        self.scale = 0.0 if stationary else 1.0
        self.x, self.t = rng.normal(size=runs), 0

    def q(self):
        return self.x + self.scale * self.process.mean(self.t)

    def loss(self):
        """The mean loss of this moment, with the noise of Q in it."""
        excess = self.process.mean_loss_at(self.t) - 1
        return 1 + self.scale * excess + 0.1 * self.x

    def step(self):
        process, runs = self.process, len(self.x)
        before, loss = self.q(), self.loss()
        kick = math.sqrt(1 - process.phi**2) * self.rng.normal(size=runs)
        self.x = process.phi * self.x + kick
        self.t += 1
        rows = np.zeros((runs, 5))
        noise = 1 + 0.1 * self.rng.exponential(size=runs)
        rows[:, 1] = process.fluctuation * noise
        rows[:, 0] = rows[:, 1] - (self.q() - before)
        rows[:, 3], rows[:, 4] = 2 * rows[:, 1], loss
        return rows


PROCESSES = (
    *(DriftingAR1(phi, max(200, round(3 / (1 - phi)))) for phi in (-0.5, 0, 0.5, 0.9)),
    DriftingAR1(0.9, 2000),
    DriftingAR1(0.99, 300),
    DriftingAR1(0.999, 3000),
    Quadratic(20, 1),
    Quadratic(20, 1, momentum=0.9),
    Quadratic(20, 1, start_at="across"),
    Quadratic(100, 2),
    Quadratic(100, 2, momentum=0.9),
    Quadratic(100, 2, momentum=0.9, center="start"),
    DoubleWell(),
    DoubleWell(center="start"),
    SlowCrossing(0.9, 2000),
)
