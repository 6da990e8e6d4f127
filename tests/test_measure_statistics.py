"""FDR1 in the stationary state of stock Keras optimizers, by many independent chains.

The ratio's standard error comes from 16 independent chains. A distance of 4 such errors
is exceeded by chance in 0.12% of cases (Student's t, 15 degrees of freedom), and the
seeds are fixed.
"""

import keras
import pytest
from measure_cases import OPTIMIZERS
from measure_chains import Chains

optimizers = keras.optimizers

# Settings with a stationary state that is reached within 2,000 steps.
STATIONARY = {
    "SGD": lambda: optimizers.SGD(0.05),
    "SGD momentum": lambda: optimizers.SGD(0.02, momentum=0.9),
    "SGD Nesterov": lambda: optimizers.SGD(0.02, momentum=0.9, nesterov=True),
    "RMSprop": lambda: optimizers.RMSprop(0.02, momentum=0.5),
    "Adam": lambda: optimizers.Adam(0.02, beta_2=0.98),
    "AdamW": lambda: optimizers.AdamW(0.02, beta_2=0.98, weight_decay=0.5),
    "Adadelta": lambda: optimizers.Adadelta(0.5, epsilon=1e-3),
    "Adamax": lambda: optimizers.Adamax(0.02, beta_2=0.98),
    "Adafactor": lambda: optimizers.Adafactor(0.02, relative_step=False),
    "Nadam": lambda: optimizers.Nadam(0.02, beta_2=0.98),
    "Lion": lambda: optimizers.Lion(0.01),
    "Lamb": lambda: optimizers.Lamb(0.02, beta_2=0.98),
}
NOT_TESTED = {
    "Adagrad": "its steps shrink for ever",
    "Ftrl": "its steps shrink for ever",
    "ScheduleFreeAdamW": "it averages over the whole run, so it slows down for ever",
    "Muon": "its step fails on the float64 weights of these chains",
}


def test_every_optimizer_is_in_one_of_the_tables():
    assert set(STATIONARY) | set(NOT_TESTED) == set(OPTIMIZERS)
    assert not set(STATIONARY) & set(NOT_TESTED)


def check_ratio(name, burn_in, steps):
    optimizer = STATIONARY[name]()
    chains = Chains(optimizer, 16, seed=2)
    if name == "Nadam":
        # Its momentum grows over tens of thousands of steps.
        optimizer.iterations.assign(10**6)
    chains.run(burn_in)
    chains.restart()
    chains.run(steps)
    left, right = chains.means().T
    ratio = left.sum() / right.sum()
    error = (left - ratio * right).std(ddof=1) / (4 * right.mean())
    assert abs(ratio - 1) < 4 * error
    return error


def test_momentum():
    assert check_ratio("SGD momentum", 1000, 1000) < 0.05


@pytest.mark.statistics
@pytest.mark.parametrize("name", STATIONARY)
def test_ratio_is_one(name):
    # The error falls as 1/T. A test with a larger one could hardly fail.
    assert check_ratio(name, 2000, 8000) < 0.1
