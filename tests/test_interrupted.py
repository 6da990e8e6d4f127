"""Runs that end with an error and begin again, with every setting of the optimizer."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from checkpoint_cases import OPTIMIZERS, assert_same_state, compiled, fit, state

from keras_fdr import FDRSGD, FDRCallback, shuffled_batches

EPOCHS = 4


class InterruptError(Exception):
    pass


class Interrupt(keras.callbacks.Callback):
    """Stops a run in a batch, with steps behind it that must not count."""

    def __init__(self, epoch):
        super().__init__()
        self._at, self._epoch = epoch, None

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self._epoch, batch) == (self._at, 2):
            raise InterruptError


def backup(tmp_path):
    return keras.callbacks.BackupAndRestore(tmp_path / "b", double_checkpoint=True)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_goes_on_bitwise(digits, tmp_path, name):
    """Velocities, averages, loss scales and half-filled accumulators included."""
    reference = compiled(name)
    passes = name == "momentum"
    expected = fit(reference, digits, EPOCHS, passes=passes)
    rows = {}
    for seed, epoch in enumerate((2, None)):
        # A restart finds other weights than those that training began with.
        model = compiled(name, seed=seed)
        collect = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda e, logs: rows.update({e: dict(logs)})
        )
        callbacks = [collect, backup(tmp_path)]
        if epoch is None:
            fit(model, digits, EPOCHS, callbacks, passes=passes)
        else:
            with pytest.raises(InterruptError):
                callbacks = [Interrupt(epoch), *callbacks]
                fit(model, digits, EPOCHS, callbacks, passes=passes)
    assert_same_state(state(model), state(reference))
    for column, values in expected.items():
        np.testing.assert_array_equal([rows[e][column] for e in range(EPOCHS)], values)


RESUME = (Path(__file__).parent.parent / "docs" / "resume.md").read_text()


# The log of the interrupted run stays open.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_the_lines_of_the_docs(tmp_path, monkeypatch, digits):
    """They run, without a warning, and again after an interruption."""
    monkeypatch.chdir(tmp_path)
    section = RESUME[RESUME.index("## Save, kill, resume") :]
    (block,) = re.findall("```python\n(.*?)```", section, re.S)
    block = block.replace("tf.config.experimental.enable_op_determinism()", "")
    assert "epochs=40" in block

    def run(epochs, *more):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(FDRSGD(0.05, 0.9, l2=0.01), loss=loss)
        names = {"keras": keras, "FDRCallback": FDRCallback, "model": model}
        batches = shuffled_batches(*digits, batch_size=50, seed=0)
        names.update(batches=batches, more=more)
        lines = block.replace("epochs=40", f"epochs={epochs}, verbose=0")
        exec(lines.replace("callbacks=[", "callbacks=[*more,"), names)
        return model

    with pytest.raises(InterruptError):
        run(3, Interrupt(1))
    interrupted = state(run(3))
    assert_same_state(interrupted, state(run(3)))
