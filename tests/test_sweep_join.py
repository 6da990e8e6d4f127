"""Seeds that were trained apart make one table."""

import pytest
from sweep_cases import least_squares, small_sweep

from keras_fdr import landscape


@pytest.fixture(scope="module")
def model():
    return least_squares(0.9)


def test_seeds_apart_are_the_seeds_of_one_sweep(model, tmp_path):
    """From directories and from tables, in the order given."""
    whole = small_sweep(model, seeds=[3, 0])
    apart = small_sweep(model, seeds=[3], directory=tmp_path / "seed_3")
    assert apart.rows == whole.rows[:2]
    small_sweep(model, seeds=[0], directory=tmp_path / "seed_0")
    joined = landscape.SweepResults.join([apart, tmp_path / "seed_0"])
    assert joined == whole
    assert landscape.SweepResults.join(iter([whole])) == whole


def test_what_does_not_belong_together_is_refused(model):
    one = small_sweep(model, seeds=[0])
    join = landscape.SweepResults.join
    with pytest.raises(ValueError, match=r"Each seed must come once.*\[0, 0\]"):
        join([one, one])
    other = small_sweep(model, seeds=[1], mode="paper")
    with pytest.raises(ValueError, match="equal settings.*independent.*paper"):
        join([one, other])
    with pytest.raises(ValueError, match=r"equal settings.*Received: \[\]"):
        join([])
    with pytest.raises(TypeError, match="path of a sweep. Received: int"):
        join([one, 3])
