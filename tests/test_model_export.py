"""`model.export` of Keras, after training with `FDRSGD` and `FDRCallback`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_fdr import FDRSGD, FDRCallback, FDRObservables


def functional():
    inputs = keras.Input((64,))
    hidden = keras.layers.Dense(16, activation="relu")(inputs)
    hidden = keras.layers.BatchNormalization()(hidden)
    hidden = keras.layers.Dropout(0.2)(hidden)
    return keras.Model(inputs, keras.layers.Dense(10)(hidden))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(16, activation="relu")
        self.normalisation = keras.layers.BatchNormalization()
        self.last = keras.layers.Dense(10)

    def call(self, x, training=False):
        return self.last(self.normalisation(self.hidden(x), training=training))


def variables_in(path):
    """Names and shapes of every variable in the checkpoint of a SavedModel."""
    return tf.train.list_variables(str(path / "variables" / "variables"))


@pytest.mark.parametrize("make", [functional, Subclassed])
def test_leaks_no_state(digits, tmp_path, make):
    x, y = digits
    model = make()
    observables = FDRObservables(center="initial", per_variable=True)
    model.compile(
        FDRSGD(0.05, momentum=0.9, l2=0.01, use_ema=True, observables=observables),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    callback = FDRCallback(full_batch=(x, y))
    model.fit(x, y, epochs=2, verbose=0, callbacks=[callback])
    model.export(tmp_path / "mine", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "mine"))
    names = [v.value.name for v in model.variables]
    assert [v.name for v in loaded.variables] == names
    # Nor is there anything in a place that `variables` does not show.
    everything = tf.train.TrackableView(loaded).descendants()
    found = [v for v in everything if isinstance(v, tf.Variable)]
    assert {v.name for v in found} == set(names)
    predictions = model.predict(x, verbose=0)
    np.testing.assert_allclose(loaded.serve(x), predictions, rtol=1e-6, atol=1e-6)
    # The file is that of the same model under an optimizer without slots.
    model.compile(keras.optimizers.SGD(), "mse")
    model.export(tmp_path / "stock", verbose=False)
    assert variables_in(tmp_path / "mine") == variables_in(tmp_path / "stock")
