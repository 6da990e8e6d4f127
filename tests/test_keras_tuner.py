"""A search with KerasTuner, which copies the callbacks for each of its models."""

import keras
import keras_tuner
import numpy as np
import pytest

from keras_fdr import FDRSGD, FDRCallback


def build(choices):
    rate = choices.Choice("rate", [0.1, 1e-6])
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(FDRSGD(rate, l2=0.01), "mse")
    return model


class Kept(keras.callbacks.Callback):
    """Keeps the logs of all models: its copies share the list."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __deepcopy__(self, memo):
        return Kept(self.seen)

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(dict(logs))


# KerasTuner calls what Python has renamed.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_random_search_measures_every_model(tmp_path, rng):
    x = rng.normal(size=(32, 2)).astype("float32")
    y = x @ np.array([[1.0], [-2.0]], "float32")
    tuner = keras_tuner.RandomSearch(
        build, objective="loss", max_trials=2, directory=tmp_path, seed=0
    )
    callback = FDRCallback(threshold=1e9, full_batch=(x, y), all_columns=True)
    seen = []
    tuner.search(x, y, epochs=2, verbose=0, callbacks=[callback, Kept(seen)])
    rates = sorted(logs["fdr_learning_rate"] for logs in seen)
    # Two models of two epochs; each cuts once, by 0.9, after its first epoch.
    np.testing.assert_allclose(rates, [9e-7, 1e-6, 0.09, 0.1], rtol=1e-6)
    assert all(np.isfinite(logs["full_batch_loss"]) for logs in seen)
    # The callback that was passed has trained nothing.
    assert callback.model is None and callback.record is None
