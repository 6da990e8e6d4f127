"""Warnings name the line of the user, and imports name what they need."""

import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_fdr import FDRSGD, FDRCallback
from keras_fdr.requirements import check_backend

X, Y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")


def model_of(optimizer):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


class Moving(keras.callbacks.Callback):
    """Changes weights and learning rate where a callback may."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.model.set_weights([w + 1 for w in self.model.get_weights()])

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = 0.01 / (1 + batch)


@pytest.mark.parametrize(
    "found, optimizer, others",
    [
        ("no L2 term", FDRSGD(0.01), []),
        ("velocities were changed", FDRSGD(0.01, l2=0.1), [Moving()]),
        ("learning rate was changed", FDRSGD(0.01, l2=0.1), [Moving()]),
    ],
)
@pytest.mark.filterwarnings("ignore:The (weights|learning rate)")
def test_warnings_point_at_the_call_of_fit(found, optimizer, others):
    model = model_of(optimizer)
    callbacks = [*others, FDRCallback()]
    with pytest.warns(UserWarning, match=found) as caught:
        line = sys._getframe().f_lineno + 1
        model.fit(X, Y, batch_size=2, epochs=2, verbose=0, callbacks=callbacks)
    (warning,) = [w for w in caught if re.search(found, str(w.message))][:1]
    assert (warning.filename, warning.lineno) == (__file__, line)


def test_numpy_backend_is_refused():
    with pytest.raises(ImportError, match=r"TensorFlow backend.*backend='jax'"):
        check_backend("jax", {})


@pytest.mark.parametrize("legacy", ["1", "true", "True"])
def test_keras_2_is_refused(legacy):
    with pytest.raises(ImportError, match=f"Received: TF_USE_LEGACY_KERAS={legacy}"):
        check_backend("tensorflow", {"TF_USE_LEGACY_KERAS": legacy})
    check_backend("tensorflow", {"TF_USE_LEGACY_KERAS": "0"})
    check_backend("tensorflow", {})


def test_the_import_itself_is_refused():
    settings = {**os.environ, "TF_USE_LEGACY_KERAS": "1"}
    child = subprocess.run(
        [sys.executable, "-c", "import keras_fdr"],
        env=settings,
        capture_output=True,
        text=True,
    )
    assert child.returncode
    assert "ImportError: keras_fdr needs Keras 3" in child.stderr
