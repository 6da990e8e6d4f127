"""How often `ratio_error` holds, for stock Keras optimizers in their stationary state.

The ratio of a stationary run is 1 up to noise, so it is within 1.96 errors of 1 in 95%
of runs if the error is right. Each optimizer takes 1,000 runs: 200 independent chains,
measured five times each. The averages are over the second half of the steps, so the
first half separates the five runs of a chain.

False alarms: a coverage of exactly 95% is found outside of 93% to 97% by chance in
0.5% of cases, and the seeds are fixed. An error that is too small by √2 covers 83%, and
one that is too large by √2 covers 99.4%. The test finds both.
"""

import keras
import numpy as np
import pytest
from measure_chains import Chains
from scipy import stats

from keras_fdr import ThresholdRule

CHAINS, REPETITIONS = 200, 5
BURN_IN, STEPS = 100, 400
LOW, HIGH = 0.93, 0.97

optimizers = keras.optimizers

# A run is worth about 40 to 80 independent values at these rates.
CASES = {
    "SGD momentum": lambda: optimizers.SGD(0.1, momentum=0.9),
    "SGD Nesterov": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "Adam": lambda: optimizers.Adam(0.4, beta_2=0.98),
    "AdamW": lambda: optimizers.AdamW(0.4, beta_2=0.98, weight_decay=0.5),
}


@pytest.mark.statistics
@pytest.mark.parametrize("name", CASES)
def test_ratio_error_covers(name):
    chains = Chains(CASES[name](), CHAINS, seed=3)
    chains.run(BURN_IN)
    verdicts = []
    for _ in range(REPETITIONS):
        chains.restart()
        chains.run(STEPS)
        verdicts += map(ThresholdRule(), chains.records())
    # The error is NaN where a run is worth under four independent values.
    inside = [abs(v.ratio - 1) < 1.96 * v.ratio_error for v in verdicts]
    assert np.isfinite([v.ratio_error for v in verdicts]).all()
    assert LOW < np.mean(inside) < HIGH


def test_rate_of_false_alarms():
    """Of a coverage of 95%, and of errors that are wrong by √2."""
    runs = CHAINS * REPETITIONS

    def passes(coverage):
        inside = stats.binom(runs, coverage)
        return inside.cdf(HIGH * runs - 1) - inside.cdf(LOW * runs)

    assert passes(0.95) > 0.995
    for factor in (0.5**0.5, 2**0.5):
        assert passes(1 - 2 * stats.norm.sf(1.96 * factor)) < 1e-9
