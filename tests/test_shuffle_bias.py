"""FDR2's left side in `fit`: unbiased if the batches are drawn independently."""

import json
from pathlib import Path

import numpy as np
import pytest
import shuffle_bias
from data import load

KEPT = Path(shuffle_bias.__file__).with_suffix(".json")


def test_kept_runs_agree_with_the_sweeps():
    """Both draws against the sweep of the same kind, which has loops of its own.

    Two means differ by more than 4 standard errors in 1 of 1,000 such tests, with
    Student's t at about 10 degrees of freedom.
    """
    kept = json.loads(KEPT.read_text())["full_batch_dissipation"]
    for runs in kept.values():
        one, other = np.array(runs["fit"]), np.array(runs["sweep"])
        error = np.hypot(*(v.std(ddof=1) / len(v) ** 0.5 for v in (one, other)))
        assert abs(one.mean() - other.mean()) < 4 * error
    # One shuffle an epoch hides most of it.
    assert max(kept["reshuffled"]["fit"]) < 0.5 * min(kept["independent"]["fit"])


@pytest.mark.statistics
@pytest.mark.parametrize("draw", list(shuffle_bias.MODES))
def test_one_run_agrees_with_the_sweep(draw):
    """A run scatters by less than 10%: beyond 40% in fewer than 1 of 10,000."""
    data, _ = load("digits")
    sweep = np.mean(shuffle_bias.swept(shuffle_bias.MODES[draw]))
    found = shuffle_bias.measure(draw, 7, data)
    assert found == pytest.approx(sweep, rel=0.4)
