"""The relaxation time of the weights' norm, and what is said when training is short."""

import warnings

import keras
import numpy as np
import pytest
from test_callback import Script, compiled, fit

from keras_fdr import FDRSGD, FDRCallback, FinalDecay, relaxation_steps


@pytest.mark.parametrize("momentum, dampening", [(0, 0), (0.9, 0), (0.5, 0.25)])
def test_relaxation_of_the_norm_by_decay_alone(momentum, dampening):
    """|θ|² falls by e in τ steps of eqs. (10) and (11) with the gradient λθ."""
    eta, lam = 0.01, 0.002
    tau = relaxation_steps(eta, lam, momentum, dampening)
    theta, v = 1.0, 0.0
    for _ in range(round(tau)):
        v = momentum * v - (1 - dampening) * lam * theta
        theta += eta * v
    assert theta**2 == pytest.approx(np.exp(-1), rel=0.01)


def test_no_decay_never_relaxes():
    assert relaxation_steps(0.1, 0.0) == np.inf


@pytest.mark.parametrize(
    "arguments", [(0, 0.1), (0.1, -1), (0.1, 0.1, 1.0), (0.1, 0.1, 0, 1)]
)
def test_out_of_range(arguments):
    with pytest.raises(ValueError, match="Received"):
        relaxation_steps(*arguments)


def test_note_on_a_short_plan(digits):
    # τ = 1/(2 · 0.1 · 0.01) = 500 steps, four steps an epoch.
    model = compiled(FDRSGD(0.1, l2=0.01))
    with pytest.warns(UserWarning, match="8 steps are only 0.016 times 500 steps"):
        fit(model, digits, [FDRCallback()], epochs=2)


@pytest.mark.parametrize(
    "epochs, arguments",
    [(2, {"factor": None}), (2, {"final_decay": FinalDecay()}), (1250, {})],
)
def test_no_note(digits, epochs, arguments):
    class Stop(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.model.stop_training = True

    model = compiled(FDRSGD(0.1, l2=0.01))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(model, digits, [FDRCallback(**arguments), Stop()], epochs=epochs)


def test_reason_says_how_long_the_record_is(digits):
    model = compiled(FDRSGD(0.1, 0.9))
    model.layers[0].kernel.regularizer = keras.regularizers.L2(0.005)  # λ = 0.01
    callback = FDRCallback()
    fit(model, digits, [callback], epochs=1)
    assert "0.08 relaxation times" in callback.verdict.reason
    assert "50 steps each" in callback.verdict.reason


def test_rules_of_ones_own_keep_their_words(digits):
    callback = FDRCallback(rule=Script("d"))
    fit(compiled(FDRSGD(0.1, l2=0.01)), digits, [callback], epochs=1)
    assert callback.verdict.reason == "told so: drifting."


def test_noise_loss_is_half_the_fluctuation(digits):
    model = compiled(FDRSGD(0.1, 0.9, l2=0.01))
    history = fit(model, digits, [FDRCallback(factor=None, all_columns=True)], epochs=3)
    half = np.array(history["fdr_fluctuation"]) / 2
    np.testing.assert_array_equal(history["fdr_noise_loss"], half)
