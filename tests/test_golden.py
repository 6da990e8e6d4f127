"""Files that older code wrote load bitwise and training goes on from them.

The files in `tests/golden` were made by `tests/golden_cases.py` before the package was
regrouped. A change of a variable's name, of the order of variables or of a setting that
is compared would lose users' saved runs; here it fails.
"""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from golden_cases import (
    GOLDEN,
    SETTINGS,
    TRAINED_EPOCHS,
    fit,
    new_model,
    state,
    sweep,
)

from keras_fdr import Record, landscape


def loaded(setting, form):
    """The model of one golden file."""
    if form == "keras":
        return keras.saving.load_model(GOLDEN / f"{setting}.keras")
    model = new_model(setting)
    model.optimizer.build(model.trainable_variables)
    if form == "weights.h5":
        model.load_weights(GOLDEN / f"{setting}.weights.h5")
    elif form == "weights.h5 before build":
        model = new_model(setting)
        model.load_weights(GOLDEN / f"{setting}.weights.h5")
        model.optimizer.build(model.trainable_variables)
    else:
        checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
        status = checkpoint.read(str(GOLDEN / f"{setting}_checkpoint"))
        # What a file of older code lacks may be missing; all that it has must be used.
        status.assert_existing_objects_matched()
    return model


def assert_bitwise(seen, wanted):
    wanted = dict(wanted)
    assert set(seen) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(seen[name], value, err_msg=name)


FORMS = ("keras", "weights.h5", "weights.h5 before build", "checkpoint")


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_format_loads_bitwise_and_goes_on(setting):
    ends = []
    for form in FORMS:
        if setting == "mixed_float16" and form == "weights.h5 before build":
            continue  # Keras' own `LossScaleOptimizer` must be built before it loads.
        model = loaded(setting, form)
        assert_bitwise(state(model), np.load(GOLDEN / f"{setting}_state.npz"))
        fit(model, TRAINED_EPOCHS + 1, initial_epoch=TRAINED_EPOCHS)
        ends.append(state(model))
    for end in ends[1:]:
        assert_bitwise(end, ends[0])
    # Another processor rounds in another order, so these are close but not bitwise.
    after = np.load(GOLDEN / f"{setting}_next.npz")
    assert set(after) == set(ends[0])
    for name in after:
        np.testing.assert_allclose(ends[0][name], after[name], rtol=2e-3, atol=1e-5)


def test_interrupted_run_goes_on_from_its_backup(tmp_path):
    shutil.copytree(GOLDEN / "backup", tmp_path / "backup")
    model = new_model("momentum")
    backup = keras.callbacks.BackupAndRestore(
        tmp_path / "backup", double_checkpoint=True
    )
    history = fit(model, TRAINED_EPOCHS + 2, callbacks=[backup])
    assert history.epoch == [TRAINED_EPOCHS, TRAINED_EPOCHS + 1]
    wanted = loaded("momentum", "keras")
    fit(wanted, TRAINED_EPOCHS + 2, initial_epoch=TRAINED_EPOCHS)
    assert_bitwise(state(model), state(wanted))


def test_record_file():
    record = Record.load(GOLDEN / "record.npz")
    kept = np.load(GOLDEN / "momentum_state.npz")
    np.testing.assert_array_equal(record.sums, kept["record"])
    assert [record.steps, record.block_length] == kept["steps"].tolist()
    assert record.learning_rate == kept["learning_rate"]


def test_sweep_directory(tmp_path):
    shutil.copytree(GOLDEN / "sweep", tmp_path / "sweep")
    kept = landscape.SweepResults.load(GOLDEN / "sweep" / "sweep.json")
    again = sweep(tmp_path / "sweep")
    assert len(kept.rows) == 4
    for old, new in zip(kept.rows, again.rows, strict=True):
        for name in ("seed", "stage", "learning_rate", "full_batch_dissipation"):
            assert getattr(old, name) == getattr(new, name)


def test_exported_trainer():
    trainer = tf.saved_model.load(str(GOLDEN / "trainer"))
    kept = np.load(GOLDEN / "momentum_state.npz")
    weights = [kept[f"weight_{i}"] for i in range(4)]
    model = new_model("momentum")
    model.set_weights(weights)
    x = np.ones((2, 6), "float32")
    predicted = trainer.predict(tf.constant(x))
    np.testing.assert_allclose(predicted, model.predict(x, verbose=0), rtol=1e-5)
    before = trainer.observables()
    trainer.train_step(tf.constant(x), tf.ones((2, 3)))
    after = trainer.observables()
    assert int(after["steps"]) == int(before["steps"]) + 1
