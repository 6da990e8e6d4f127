"""An exported trainer continues like the process that wrote it."""

import pickle
import subprocess
import sys
from pathlib import Path

import export_cases
import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_fdr import FDRCallback, FullBatchPass, Record, export_trainer

pytestmark = pytest.mark.process

TESTS = Path(__file__).parent
BLOCKED = "keras,keras_fdr"
CUT_BEFORE, PASS_BEFORE = 40, 70
EPOCH, EPOCHS, THRESHOLD, FACTOR = 10, 30, 0.3, 0.8


def inner(model):
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def numbers(variables):
    return [v.numpy() for v in variables]


def write_plan(folder, **plan):
    (folder / "plan.pickle").write_bytes(pickle.dumps(plan))


def here(case):
    """The same steps by Keras' own `train_on_batch` and this package's classes."""
    model, arrays = case.model, case.arrays
    optimizer = inner(model)
    found = {"logs": []}
    model.reset_metrics()
    if optimizer is not model.optimizer:
        # Traced before the export let the loss through to our optimizer's record.
        model.make_train_function(force=True)
    for step, batch in enumerate(export_cases.batches(1)):
        if step == CUT_BEFORE and not isinstance(case_rate(optimizer), str):
            optimizer.learning_rate = 0.5 * float(optimizer.learning_rate.numpy())
            optimizer.observables.reset()
        if step == PASS_BEFORE:
            result = FullBatchPass(model, in_parts(arrays))(gradient=True)
            row = optimizer.measure_full_batch(result)
            found["full_batch"] = (result, row.numpy())
        logs = model.train_on_batch(*export_cases.take(arrays, batch), return_dict=True)
        found["logs"].append(logs)
    found["variables"] = numbers(model.variables)
    found["optimizer_variables"] = numbers(model.optimizer.variables)
    observables = optimizer.observables
    found["record"] = observables.record()
    found["full_batch_record"] = observables.full_batch_record()
    found["restarts"] = observables.restart_count()
    if observables.per_variable:
        found["by_variable"] = observables.record_by_variable()
    found["predictions"] = model.predict_on_batch(arrays[0])
    return found


def in_parts(arrays):
    """A dataset of the driver's two unequal batches."""
    inputs, *rest = arrays
    if isinstance(inputs, list):  # `tf.data` would make one array of a list.
        inputs = tuple(inputs)
    rows = tf.data.Dataset.from_tensor_slices((inputs, *rest))
    return rows.take(90).batch(90).concatenate(rows.skip(90).batch(110))


def case_rate(optimizer):
    """The learning rate, or the name of its schedule's class."""
    source = optimizer.get_config()["learning_rate"]
    return source["class_name"] if isinstance(source, dict) else source


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What each case found here, and in one fresh process without Keras."""
    root = tmp_path_factory.mktemp("exported")
    found = {}
    for name, make in export_cases.ALL.items():
        folder = root / name
        folder.mkdir()
        keras.utils.set_random_seed(0)
        case = make()
        # Some steps come first, so that there is a state to resume from.
        for batch in export_cases.batches(0, steps=25):
            case.model.train_on_batch(*export_cases.take(case.arrays, batch))
        export_trainer(case.model, folder / "trainer", case.signature)
        write_plan(
            folder,
            arrays=case.arrays,
            batches=export_cases.batches(1),
            cut_before=CUT_BEFORE,
            pass_before=PASS_BEFORE,
        )
        found[name] = here(case)
    (root / "rule").mkdir()
    found["rule"] = adaptive(root / "rule")
    run_driver(BLOCKED, *sorted(root.iterdir()))
    return {
        name: (one, pickle.loads((root / name / "found.pickle").read_bytes()))
        for name, one in found.items()
    } | {"root": root}


def run_driver(blocked, *folders):
    command = [sys.executable, TESTS / "export_driver.py", blocked, *folders]
    done = subprocess.run(
        list(map(str, command)), cwd=folders[-1], text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr


def adaptive(folder):
    """`fit` with `FDRCallback`, and the same run to be made from outside."""
    case = export_cases.named_inputs()
    model, arrays = case.model, case.arrays
    batches = export_cases.batches(2, steps=EPOCH * EPOCHS)
    rows = [export_cases.take(arrays, batch) for batch in batches]
    export_trainer(model, folder / "trainer")
    write_plan(
        folder,
        arrays=arrays,
        batches=batches,
        epoch=EPOCH,
        threshold=THRESHOLD,
        factor=FACTOR,
    )
    callback = FDRCallback(threshold=THRESHOLD, factor=FACTOR)
    # One iterator over all epochs: batches in this very order.
    joined = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *rows)
    dataset = tf.data.Dataset.from_tensor_slices(joined).batch(export_cases.BATCH)
    history = model.fit(
        dataset,
        epochs=EPOCHS,
        steps_per_epoch=EPOCH,
        shuffle=False,
        verbose=0,
        callbacks=[callback],
    ).history
    columns = (history[c] for c in ("learning_rate", "fdr_ratio", "loss"))
    return {
        "history": list(zip(*columns, strict=True)),
        "cuts": len(callback.cuts),
        "variables": numbers(model.variables),
        "record": inner(model).observables.record(),
    }


def assert_close(one, other, tolerance=1e-6):
    """Largest difference relative to the largest value."""
    one, other = (np.asarray(a, dtype="float64") for a in (one, other))
    assert one.shape == other.shape
    assert np.array_equal(np.isnan(one), np.isnan(other))
    if one.size and not np.isnan(one).all():
        scale = max(np.nanmax(np.abs(one)), 1e-3)
        assert np.nanmax(np.abs(one - other)) <= tolerance * scale


def record_of(values, prefix=""):
    """A `Record` from what `observables` returned."""
    return Record(
        values[f"{prefix}sums"],
        int(values[f"{prefix}steps"]),
        int(values[f"{prefix}block_length"]),
        float(values["learning_rate"]),
        tuple(name.decode() for name in values[f"{prefix}names"]),
        None if prefix else values["learning_rates"],
    )


def assert_same_record(one, other):
    assert (one.steps, one.block_length) == (other.steps, other.block_length)
    assert one.names == other.names
    assert one.learning_rate == pytest.approx(other.learning_rate, nan_ok=True)
    for column, others in zip(one.sums.T, other.sums.T, strict=True):
        assert_close(column, others)
    assert_close(*(r.series("learning_rate")[1] for r in (one, other)))


@pytest.mark.parametrize("name", export_cases.ALL)
def test_goes_on_without_keras(runs, name):
    """100 steps with a cut: weights, optimizer, record and logs to 1e-6."""
    one, other = runs[name]
    assert other["settable"] == (name not in ("schedule", "cosine"))
    assert [set(logs) for logs in other["logs"]] == [set(logs) for logs in one["logs"]]
    for key in one["logs"][0]:
        for found in zip(one["logs"], other["logs"], strict=True):
            assert_close(*(logs[key] for logs in found))
    state = other["state"]
    for key in ("variables", "optimizer_variables"):
        for found in zip(one[key], state[key], strict=True):
            assert_close(*found)
    predictions = (tf.nest.flatten(found["predictions"]) for found in runs[name])
    for pair in zip(*predictions, strict=True):
        assert_close(*pair)
    values = state["observables"]
    assert int(values["restarts"]) == one["restarts"]
    assert_same_record(one["record"], record_of(values))


@pytest.mark.parametrize("name", export_cases.ALL)
def test_half_running_averages_without_keras(runs, name):
    one, other = runs[name]
    averages = other["state"]["averages"]
    for record in (one["record"], one["full_batch_record"]):
        for column in record.names:
            assert_close(record.half_running_average(column), averages.pop(column))
    assert not averages


@pytest.mark.parametrize("name", export_cases.ALL)
def test_full_batch_pass_without_keras(runs, name):
    """∇f from unequal parts is that of `FullBatchPass`, and so is the record."""
    one, other = runs[name]
    (result, row), found = one["full_batch"], other["full_batch"]
    assert found.pop("examples") == result.examples == 200
    full_batch_row = [found.pop(column) for column in one["full_batch_record"].names]
    assert_close(row, full_batch_row)
    assert set(found) == {f"gradient_{i}" for i in range(len(result.gradient))}
    for i, gradient in enumerate(result.gradient):
        assert_close(gradient, found[f"gradient_{i}"])
    values = other["state"]["observables"]
    assert_same_record(one["full_batch_record"], record_of(values, "full_batch_"))


@pytest.mark.parametrize("name", export_cases.ALL)
def test_checkpoint_without_keras(runs, name):
    """A step after the checkpoint is read again is bitwise that of before."""
    other = runs[name][1]
    pairs = zip(
        tf.nest.flatten(other["next"]),
        tf.nest.flatten(other["next_again"]),
        strict=True,
    )
    for one, again in pairs:
        np.testing.assert_array_equal(one, again)


def test_weight_tensors_by_themselves_without_keras(runs):
    one, other = runs["regression"]
    values = other["state"]["observables"]
    assert one["record"].block_length > 1  # A record that has merged.
    names = [name.decode() for name in values["variable_names"]]
    assert names == list(one["by_variable"])
    for i, record in enumerate(one["by_variable"].values()):
        assert_close(record.sums, values["variable_sums"][:, i, :2])


def test_signatures_without_this_package(runs):
    """Keras may be imported here; the flat signatures are called, as servers do."""
    folder = runs["root"] / "regression"
    run_driver("keras_fdr", "--signatures", folder)
    again = pickle.loads((folder / "found.pickle").read_bytes())
    found = runs["regression"][1]
    assert [logs["loss"] for logs in again["logs"]] == pytest.approx(
        [logs["loss"] for logs in found["logs"]], rel=1e-6
    )
    for pair in zip(
        found["state"]["variables"], again["state"]["variables"], strict=True
    ):
        assert_close(*pair)


def test_loss_is_recorded_under_loss_scaling(runs):
    assert np.isfinite(runs["half_precision"][0]["record"].sums).all()


def test_dropout_is_drawn_and_statistics_move(runs):
    """Else the comparison of the classification's runs would say less than it seems."""
    one = runs["classification"][0]
    case = export_cases.classification()
    moved = {v.path.split("/")[-1] for v in case.model.non_trainable_variables}
    assert moved == {"moving_mean", "moving_variance", "seed_generator_state"}
    losses = [logs["loss"] for logs in one["logs"]]
    assert len(set(losses)) == len(losses)


def test_schedule_from_outside(runs):
    """The paper's rule in five lines cuts where `FDRCallback` does."""
    one, other = runs["rule"]
    assert 3 <= one["cuts"] < EPOCHS - 3
    for row, found in zip(one["history"], other["history"], strict=True):
        np.testing.assert_allclose(row, found, rtol=1e-5)
    for pair in zip(one["variables"], other["state"]["variables"], strict=True):
        assert_close(*pair)
    assert_same_record(one["record"], record_of(other["state"]["observables"]))
    assert int(other["state"]["observables"]["restarts"]) == 0
