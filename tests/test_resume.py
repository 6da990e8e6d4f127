"""Real processes, killed at any moment and restarted, end where one run would have."""

import csv
import multiprocessing
import os
import sys
import time
from collections import Counter

import numpy as np
import pytest
import resume_child

from keras_fdr import Record

# Of "save" each moment is one written array: about 30 a backup.
MOMENTS = {"batch": 25, "pass": 15, "cut": 2, "save": 60, "saved": 2}

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def context():
    """Processes forked from one that has imported all, but started nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["resume_child"])
    patch = pytest.MonkeyPatch()
    # Else NumPy starts threads on import, which a fork would lose.
    patch.setenv("OPENBLAS_NUM_THREADS", "1")
    # The server does not get this process' `sys.path`.
    patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    yield context
    patch.undo()


def test_a_record_file_is_whole_after_any_kill(context, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "run.record"
    steps = []
    for delay in rng.uniform(0, 0.1, 12):
        ours, theirs = context.Pipe(duplex=False)
        arguments = (str(path), theirs)
        process = context.Process(target=resume_child.save_records, args=arguments)
        process.start()
        assert ours.recv() == "begun"
        time.sleep(delay)
        process.kill()
        process.join()
        assert process.exitcode == -9
        record = Record.load(path)
        assert np.all(record.sums == record.steps)
        steps.append(record.steps)
    assert max(steps) > 5


def run(context, folder, epochs, rng=None, kind=None, stock=False):
    """One process; the last moment that it told of, or `None` if it ended by itself."""
    count = int(rng.integers(MOMENTS[kind])) if kind else 0
    delay = rng.uniform(0, 0.02) if kind else 0.0
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=resume_child.train,
        # In the compiled step there is no waiting: the kill comes when it comes.
        args=(str(folder), epochs, theirs, stock, kind, count, kind != "batch"),
    )
    process.start()
    theirs.close()
    last = None
    try:
        while True:
            moment = ours.recv()
            if moment == "kill me":
                time.sleep(delay)
                process.kill()
            else:
                last = moment
    except EOFError:
        pass
    process.join()
    assert process.exitcode == (-9 if kind else 0)
    return last if kind else None


def newest_rows(folder):
    """The log, of each epoch the newest row; and how many rows there are."""
    with open(folder / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["epoch"]: row for row in rows}, len(rows)


def assert_same_end(folder, reference, epochs):
    one, other = (np.load(f / "result.npz") for f in (folder, reference))
    assert one.files == other.files
    for name in other.files:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    (ours, _), (theirs, count) = newest_rows(folder), newest_rows(reference)
    assert ours == theirs
    assert count == len(theirs) == epochs


def kill_and_restart(context, tmp_path, kinds, epochs, seed, stock=False):
    rng = np.random.default_rng(seed)
    folder, reference = tmp_path / "killed", tmp_path / "reference"
    folder.mkdir()
    reference.mkdir()
    run(context, reference, epochs, stock=stock)
    hit = Counter(run(context, folder, epochs, rng, kind, stock) for kind in kinds)
    run(context, folder, epochs, stock=stock)
    assert_same_end(folder, reference, epochs)
    # There was something to get wrong.
    with np.load(reference / "result.npz") as result:
        cuts = result["cuts"]
    assert 2 <= len(cuts) < epochs - 2
    row = newest_rows(reference)[0]["1"]
    columns = ("fdr_dissipation", "fdr_fluctuation", "fdr_ratio", "learning_rate")
    columns += ("full_batch_loss", "full_batch_gradient_norm", "full_batch_accuracy")
    if not stock:
        columns += ("full_batch_dissipation",)
    assert all(np.isfinite(float(row[column])) for column in columns)
    print(f"killed at {dict(hit)}, {len(cuts)} cuts")
    return hit


def test_killed_at_each_kind_of_moment(context, tmp_path):
    hit = kill_and_restart(context, tmp_path, list(MOMENTS), epochs=14, seed=0)
    assert set(hit) >= {"pass", "cut", "save", "saved"}


def test_a_stock_optimizer_is_killed_at_each_kind_of_moment(context, tmp_path):
    hit = kill_and_restart(
        context, tmp_path, list(MOMENTS), epochs=14, seed=0, stock=True
    )
    assert set(hit) >= {"pass", "cut", "save", "saved"}


@pytest.mark.slow
def test_killed_at_25_random_moments(context, tmp_path):
    rng = np.random.default_rng(1)
    kinds = list(rng.permutation(list(MOMENTS) * 5))
    hit = kill_and_restart(context, tmp_path, kinds, epochs=60, seed=2)
    assert hit.total() == 25
    assert all(hit[kind] == 5 for kind in ("cut", "save", "saved"))
    assert hit["pass"] >= 5
