"""An enumerated least-squares problem, and what FDR2 finds in it exactly."""

from typing import NamedTuple

import numpy as np
from oracles import LeastSquares, StationaryMoments

EXAMPLES = 30
_RNG = np.random.default_rng(0)
X = _RNG.uniform(-1.7, 1.7, size=(EXAMPLES, 2))
PROBLEM = LeastSquares(X, X @ [2.0, -1.0] + _RNG.normal(size=EXAMPLES), l2=0.1)
BATCH_SIZE = 2


class Case(NamedTuple):
    mu: float
    nu: float
    rates: tuple

    def __str__(self):
        return f"mu={self.mu},nu={self.nu}"


def exact(case, rate):
    return StationaryMoments(PROBLEM, rate, case.mu, case.nu, BATCH_SIZE)


def exact_limit():
    """Tr(HC̃) as η → 0, where θ stays at the minimiser."""
    h, c = PROBLEM.gradients(BATCH_SIZE)
    g = h @ PROBLEM.minimiser - c
    return np.einsum("ai,ij,aj->a", g, h.mean(axis=0), g).mean()


def truncation(case):
    """The error of the straight line through exact values, as Tr(HC̃)."""
    slopes = [exact(case, r).full_batch_dissipation / r for r in case.rates]
    at_zero = np.polyfit(case.rates, slopes, 1)[1]
    return 2 * (1 - case.mu**2) / (1 - case.nu) ** 2 * at_zero - exact_limit()
