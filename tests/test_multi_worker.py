"""Real processes under `MultiWorkerMirroredStrategy` equal one process.

Each launch has a limit in seconds, after which its workers are killed.
"""

import json
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
import worker_cases

pytestmark = pytest.mark.process

LIMIT = 300  # Seconds, on a busy machine. On an idle one a tenth is enough.


def logs(folder):
    return "\n".join(path.read_text()[-3000:] for path in folder.glob("*.log"))


def launch(count, folder, *arguments):
    """Runs workers to their end; their results, checked to be bitwise the same."""
    processes = worker_cases.start(count, folder, *arguments)
    codes = worker_cases.finish(processes, LIMIT)
    assert codes == [0] * count, logs(folder)
    first, *others = (dict(np.load(p)) for p in sorted(folder.glob("*.npz")))
    assert len(others) == count - 1
    for other in others:
        assert first.keys() == other.keys()
        for name, value in first.items():
            np.testing.assert_array_equal(value, other[name], err_msg=name)
    return first


@pytest.fixture(scope="module")
def one_process():
    strategy = tf.distribute.get_strategy()
    return worker_cases.train(strategy), worker_cases.train_otherwise(strategy)


def assert_close(found, expected, names=None):
    for name in names or expected:
        np.testing.assert_allclose(
            found[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name
        )


def test_three_workers(tmp_path, one_process):
    """Weights, rows, cuts, logs, passes, `evaluate` and `predict` of one process."""
    train, otherwise = one_process
    assert [epoch for epoch, *_ in train["cuts"]] == [2, 3]
    found = launch(3, tmp_path, "all", tmp_path)
    # Shares are unequal in the last batch, and an example short in the first of
    # validation. Shuffled arrays come once each: at rest their loss shows it.
    assert_close(found, train)
    assert_close(found, otherwise)
    assert found["stopped_after"].tolist() == [0, 1, 2]
    assert found["examples"].tolist() == [1, 6 * 203, 203]
    # The chief alone writes, and what it wrote are the weights of the best epoch.
    files = {p.name for p in tmp_path.iterdir() if not p.name.startswith("worker_")}
    assert files == {"best.keras"}
    wrote = [(tmp_path / f"worker_{i}.log").read_text() for i in range(3)]
    assert ["saving model to" in log for log in wrote] == [True, False, False]
    x, y = worker_cases.digits()
    saved = keras.models.load_model(tmp_path / "best.keras")
    loss, *_ = saved.evaluate(x[:41], y[:41], verbose=0)
    assert loss == pytest.approx(min(train["history/val_loss"]), rel=1e-5)


@pytest.mark.slow
def test_killed_worker(tmp_path, one_process):
    """One of two is killed in mid-epoch: the other fails soon, and a restart of both
    goes on as if nothing had happened."""
    train, _ = one_process
    processes = worker_cases.start(2, tmp_path, "main", tmp_path, 1)
    assert processes[1].wait(LIMIT) == -9, logs(tmp_path)
    start = time.monotonic()
    assert worker_cases.finish(processes, 60) == [1, -9], logs(tmp_path)
    assert time.monotonic() - start < 50
    assert "UnavailableError" in (tmp_path / "worker_0.log").read_text()
    backup = json.loads((tmp_path / "backup" / "training_metadata.json").read_text())
    killed_in, _ = worker_cases.KILLED_IN
    assert backup["epoch"] == killed_in

    found = launch(2, tmp_path, "main", tmp_path)
    assert len(found["history/loss"]) == worker_cases.EPOCHS - killed_in
    rest = {
        name: values[killed_in:]
        for name, values in train.items()
        if name.startswith("history/")
    }
    for kind in ("rows", "passes"):
        for epoch in range(killed_in, worker_cases.EPOCHS):
            rest[f"{kind}/{epoch - killed_in}"] = train[f"{kind}/{epoch}"]
    assert_close(found, rest)
    same = [n for n in train if n.startswith("weight/")]
    assert_close(found, train, [*same, "cuts", "evaluate", "predict"])
    # Removed at the end of training, by the chief.
    assert not (tmp_path / "backup").exists()
