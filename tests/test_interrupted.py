"""Runs that end with an error and begin again, with every setting of the optimizer."""

import keras
import numpy as np
import pytest
from checkpoint_cases import OPTIMIZERS, assert_same_state, compiled, fit, state

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
