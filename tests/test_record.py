"""Record in NumPy: averages, series, files."""

import numpy as np
import pytest

from keras_fdr import Record


def random_record(rng, steps=50, block_length=1):
    blocks = -(-steps // block_length)
    sums = rng.uniform(1, 2, (blocks, 5))
    return Record(sums, steps, block_length, learning_rate=0.1)


def test_empty():
    record = Record.empty()
    assert record.steps == 0
    assert np.isnan(record.half_running_average("loss"))
    assert np.isnan(record.ratio)
    assert record.first_nonfinite("loss") is None
    for curve in (record.series("loss"), record.block_means("loss")):
        assert [len(a) for a in curve] == [0, 0]


def test_records_are_told_apart_by_identity(rng):
    """Arrays have no single truth value, so equality could not be told."""
    record = random_record(rng)
    other = Record(record.sums, record.steps, 1, learning_rate=0.1)
    assert record == record and record != other
    assert len({record, other, record}) == 2


def test_ratio(rng):
    record = random_record(rng)
    dissipation, fluctuation = record.sums[25:, :2].sum(axis=0)
    assert record.ratio == pytest.approx(dissipation / fluctuation)


def test_ratio_without_fluctuation():
    assert np.isnan(Record(np.zeros((4, 5)), steps=4).ratio)


def test_block_means(rng):
    record = random_record(rng, steps=11, block_length=4)
    steps, means = record.block_means("loss")
    np.testing.assert_array_equal(steps, [4, 8, 11])
    np.testing.assert_allclose(means, record.sums[:, 4] / [4, 4, 3])


@pytest.mark.parametrize("steps", [1, 5, 16, 17, 23, 31, 64])
def test_window_is_the_nearest_block_boundary(rng, steps):
    record = random_record(rng, steps, block_length=8)
    boundaries = np.arange(0, steps, 8)
    nearest = np.abs(boundaries - steps // 2).min()
    assert record.window_start in boundaries
    assert abs(record.window_start - steps // 2) == nearest


def test_nonfinite_values_stay_in_their_windows(rng):
    record = random_record(rng, steps=40)
    record.sums[9, 0] = np.nan
    record.sums[12, 1] = np.inf
    steps, averages = record.series("dissipation")
    np.testing.assert_array_equal(steps[np.isnan(averages)], np.arange(10, 20))
    for t in (9, 20, 40):
        assert averages[t - 1] == pytest.approx(record.sums[t // 2 : t, 0].mean())
    assert record.first_nonfinite("dissipation", "fluctuation") is None
    earlier = Record(record.sums[:18], steps=18)
    assert earlier.first_nonfinite("dissipation", "fluctuation") == (10, 10)
    assert earlier.first_nonfinite("fluctuation") == (13, 13)
    assert earlier.first_nonfinite("loss") is None
    blocks = Record(record.sums[:18], steps=35, block_length=2)
    assert blocks.first_nonfinite("dissipation", "fluctuation") == (19, 20)


def test_save_and_load(rng, tmp_path):
    record = random_record(rng, steps=41, block_length=2)
    path = tmp_path / "run.record"
    record.save(path)
    copy = Record.load(path)
    np.testing.assert_array_equal(copy.sums, record.sums)
    for name in ("steps", "block_length", "learning_rate"):
        assert getattr(copy, name) == getattr(record, name)
    assert [p.name for p in tmp_path.iterdir()] == ["run.record"]


BROKEN = r"complete file.* Received: .*run\.record"


def test_truncated_file(rng, tmp_path):
    path = tmp_path / "run.record"
    random_record(rng).save(path)
    whole = path.read_bytes()
    lengths = {*range(0, len(whole), len(whole) // 40), *range(1, 100), len(whole) - 1}
    for kept in sorted(lengths):
        path.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=BROKEN):
            Record.load(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_flipped_bits(rng, tmp_path):
    """Found out, or in a place that does not matter; never another record."""
    path = tmp_path / "run.record"
    record = random_record(rng)
    record.save(path)
    whole = path.read_bytes()
    found_out = 0
    for place in range(0, len(whole), 3):
        broken = bytearray(whole)
        broken[place] ^= 1 << place % 8
        path.write_bytes(broken)
        try:
            copy = Record.load(path)
        except ValueError as error:
            assert "run.record" in str(error)
            found_out += 1
        else:
            np.testing.assert_array_equal(copy.sums, record.sums)
            for name in ("steps", "block_length", "learning_rate", "names"):
                assert getattr(copy, name) == getattr(record, name)
    assert found_out > 0.8 * len(whole) / 3


class DiskFullError(OSError):
    pass


def half_written(file, **arrays):
    file.write(b"half")
    raise DiskFullError


def not_renamed(*names):
    raise DiskFullError


@pytest.mark.parametrize(
    "target, failing",
    [
        ("numpy.savez", half_written),
        ("os.fsync", not_renamed),
        ("os.replace", not_renamed),
    ],
)
def test_a_failed_write_leaves_the_old_file(
    rng, tmp_path, monkeypatch, target, failing
):
    path = tmp_path / "run.record"
    record = random_record(rng)
    record.save(path)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(target, failing)
        with pytest.raises(DiskFullError):
            random_record(rng, steps=10).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["run.record"]


def test_what_a_killed_write_left_is_overwritten(rng, tmp_path):
    path = tmp_path / "run.record"
    (tmp_path / "run.record.partial").write_bytes(b"half")
    record = random_record(rng)
    record.save(path)
    np.testing.assert_array_equal(Record.load(path).sums, record.sums)
    assert [p.name for p in tmp_path.iterdir()] == ["run.record"]


def test_an_array_is_no_record(tmp_path):
    path = tmp_path / "run.record"
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=BROKEN):
        Record.load(path)


def test_another_file(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, a=1)
    with pytest.raises(ValueError, match=r"`Record.save` wrote.*other\.npz"):
        Record.load(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Record.load(tmp_path / "none")


def test_refused_arguments(rng):
    with pytest.raises(ValueError, match=r"so shape \(3, 5\). Received: .*\(2, 5\)"):
        Record(np.zeros((2, 5)), steps=5, block_length=2)
    message = (
        "one of dissipation, .*, loss, learning_rate. Received: name='temperature'"
    )
    with pytest.raises(ValueError, match=message):
        random_record(rng).half_running_average("temperature")
    with pytest.raises(ValueError, match=message):
        Record.empty().half_running_average("temperature")
    for name in (None, 1, np.zeros(2)):
        with pytest.raises(ValueError, match="`name` must be one of.*Received: name="):
            random_record(rng).series(name)


@pytest.mark.parametrize(
    "changes, error, word",
    [
        ({"sums": "a"}, TypeError, "sums='a'"),
        ({"sums": np.zeros((2, 5)) * 1j}, TypeError, "sums=array"),
        ({"sums": [[1.0], [1.0, 2.0]]}, TypeError, "sums="),
        ({"steps": 1.5}, TypeError, "steps=1.5"),
        ({"steps": True}, TypeError, "steps=True"),
        ({"steps": -1}, ValueError, "steps=-1"),
        ({"block_length": 0}, ValueError, "block_length=0"),
        ({"learning_rate": "x"}, TypeError, "learning_rate='x'"),
        ({"learning_rates": "x"}, TypeError, "learning_rates='x'"),
        ({"learning_rates": [None, 0.1]}, TypeError, "learning_rates="),
        ({"learning_rates": [0.1]}, ValueError, "learning_rates"),
        ({"names": "abcde"}, TypeError, "names='abcde'"),
        ({"names": ("a",) * 5}, ValueError, "names="),
    ],
)
def test_refused_types(changes, error, word):
    arguments = {"sums": np.zeros((2, 5)), "steps": 2, **changes}
    with pytest.raises(error, match=f"must .*Received: {word}"):
        Record(**arguments)


@pytest.mark.parametrize("path", [None, 1, b"x"])
def test_refused_path(path):
    with pytest.raises(TypeError, match="a file name or a path.*Received: path="):
        Record.load(path)


def test_numbers_of_numpy_become_pythons():
    numbers = np.int32(2), np.int64(1), np.float32(0.5)
    record = Record(np.zeros((2, 5), "f"), *numbers)
    assert [type(v) for v in (record.steps, record.block_length)] == [int, int]
    assert type(record.learning_rate) is float
    assert record.sums.dtype == np.float64


def test_a_record_is_short_to_read(rng):
    rows = np.tile([3.0, 4.0, 0.0, 0.0, 0.0], (50, 1))
    record = Record(rows, steps=50, learning_rate=0.1)
    assert repr(record) == "Record(steps=50, ratio=0.75, learning_rate=0.1)"
    # A record of full-batch passes has no ratio.
    empty = "Record(steps=0, learning_rate=nan, names=('a',))"
    assert repr(Record.empty(("a",))) == empty
