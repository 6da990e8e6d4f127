"""The final decay: its rates, when it begins and ends, and that it resumes bitwise."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from replica_runs import mirrored
from test_callback import Script, compiled, fit

from keras_fdr import FDRSGD, DriftRule, FDRCallback, FinalDecay, export_trainer


def callback_of(statuses, share=0.25, **arguments):
    early = arguments.pop("ends_early", True)
    decay = FinalDecay(share, arguments.pop("shape", "linear"), early)
    return FDRCallback(rule=Script(statuses), final_decay=decay, **arguments)


@pytest.mark.parametrize(
    "shape, shapes", [("linear", [7, 5, 3, 1]), ("sqrt", None)], ids=str
)
def test_rates_of_the_planned_decay(digits, shape, shapes):
    model = compiled(FDRSGD(0.1, 0.9, l2=0.01))
    callback = callback_of("d" * 8, 0.5, shape=shape, all_columns=True)
    history = fit(model, digits, [callback], epochs=8)
    x = (np.arange(4) + 0.5) / 4
    scale = np.array(shapes) / 8 if shapes else 1 - np.sqrt(x)
    wanted = 0.1 * np.concatenate([np.ones(4), scale])
    np.testing.assert_allclose(history["learning_rate"], wanted, rtol=1e-6)
    np.testing.assert_allclose(history["fdr_learning_rate"], wanted, rtol=1e-6)


def test_begins_early_and_ends_training(digits, capsys):
    callback = callback_of("ddds" + "s" * 20, 0.1, verbose=1)
    model = compiled(FDRSGD(0.1, l2=0.01))
    history = fit(model, digits, [callback], epochs=20)
    # Four epochs are done, and the decay takes a tenth of the twenty that were planned.
    wanted = [0.1] * 4 + [0.075, 0.025]
    np.testing.assert_allclose(history["learning_rate"], wanted, rtol=1e-6)
    assert callback.cuts == []
    out = capsys.readouterr().out
    assert "Epoch 4: the final decay begins now" in out
    assert "until epoch 6 instead of 20. told so: stationary." in out


def test_begins_early_and_takes_all_epochs_that_are_left(digits, capsys):
    callback = callback_of("sd" + "d" * 9, 0.2, verbose=1, ends_early=False)
    model = compiled(FDRSGD(0.1, l2=0.01))
    history = fit(model, digits, [callback], epochs=6)
    wanted = [0.1, 0.09, 0.07, 0.05, 0.03, 0.01]
    np.testing.assert_allclose(history["learning_rate"], wanted, rtol=1e-6)
    assert "until the planned end. told so: stationary." in capsys.readouterr().out


def test_measuring_only_never_begins_early(digits):
    model = compiled(FDRSGD(0.1, l2=0.01))
    history = fit(model, digits, [callback_of("s" * 4, factor=None)], epochs=4)
    np.testing.assert_allclose(history["learning_rate"], [0.1] * 3 + [0.05], rtol=1e-6)


def test_min_lr_is_the_least_rate(digits):
    model = compiled(FDRSGD(0.1, l2=0.01))
    history = fit(model, digits, [callback_of("d" * 4, 0.9, min_lr=0.05)], epochs=4)
    wanted = [0.0875, 0.0625, 0.05, 0.05]
    np.testing.assert_allclose(history["learning_rate"], wanted, rtol=1e-6)


@pytest.mark.parametrize("killed_after", [2, 3, 4, 5])
def test_resumes_bitwise(digits, tmp_path, killed_after):
    """A run that is killed before, in or just before the end of the decay."""

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == killed_after:
                raise KeyboardInterrupt

    def run(*others, statuses="ddds" + "d" * 8):
        keras.utils.set_random_seed(3)
        model = compiled(FDRSGD(0.1, 0.9, l2=0.01))
        callback = FDRCallback(
            rule=Script(statuses), final_decay=FinalDecay(1 / 6, "sqrt", True)
        )
        callbacks = [callback, *others]
        history = fit(model, digits, callbacks, epochs=12, shuffle=False)
        return model, history

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "b", double_checkpoint=True)

    whole, history = run()
    assert len(history["loss"]) == 6
    with pytest.raises(KeyboardInterrupt):
        run(backup(), Kill())
    rest = ("ddds" + "d" * 8)[killed_after:]
    resumed, tail = run(backup(), statuses=rest)
    assert history["loss"][killed_after:] == tail["loss"]
    assert history["learning_rate"][killed_after:] == tail["learning_rate"]
    for a, b in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    assert whole.optimizer.final_decay.read() == resumed.optimizer.final_decay.read()


@pytest.mark.parametrize("form", ["m.keras", "m.weights.h5"])
def test_files_carry_it(digits, tmp_path, form):
    model = compiled(FDRSGD(0.1, l2=0.01))
    fit(model, digits, [callback_of("sddd")], epochs=2)
    before = model.optimizer.final_decay.read()
    assert before.learning_rate == pytest.approx(0.1)
    if form.endswith(".keras"):
        model.save(tmp_path / form)
        model = keras.saving.load_model(tmp_path / form)
    else:
        model.save_weights(tmp_path / form)
        model = compiled(FDRSGD(0.1, l2=0.01))
        model.load_weights(tmp_path / form)
    history = fit(model, digits, [callback_of("d")], epochs=2, initial_epoch=1)
    assert model.optimizer.final_decay.read() == before
    np.testing.assert_allclose(history["learning_rate"], [0.05], rtol=1e-6)


def test_another_fit_after_the_end_says_where_the_rate_is(digits):
    model = compiled(FDRSGD(0.1, l2=0.01))
    fit(model, digits, [callback_of("dddd")], epochs=4)
    with pytest.warns(UserWarning, match=r"at 0\.05; that run had started at 0\.1"):
        history = fit(model, digits, [callback_of("dddd")], epochs=4)
    wanted = [0.05] * 3 + [0.025]
    np.testing.assert_allclose(history["learning_rate"], wanted, rtol=1e-6)


def test_picked_up_in_the_middle_of_the_plan(digits):
    model = compiled(FDRSGD(0.1, l2=0.01))
    history = fit(model, digits, [callback_of("dd", 0.5)], epochs=8, initial_epoch=6)
    np.testing.assert_allclose(history["learning_rate"], [0.075, 0.025], rtol=1e-6)


def test_under_a_strategy(digits):
    with mirrored(2).scope():
        model = compiled(FDRSGD(0.1, l2=0.01))
    history = fit(model, digits, [callback_of("sddd", 0.25)], epochs=4)
    np.testing.assert_allclose(history["learning_rate"], [0.1, 0.05], rtol=1e-6)


def test_span_functions():
    decay = FinalDecay(0.2, "linear", ends_early=True)
    assert decay.planned(60, 0.1) == (48, 12, 0.1)
    assert decay.from_now(8, 60, 0.1) == (8, 12, 0.1)
    assert decay.from_now(58, 60, 0.1) == (58, 2, 0.1)
    span = decay.planned(5, 0.3)
    assert [decay.rate(span, e) for e in (3, 4, 5)] == [0.3, 0.15, 0.15]
    assert decay == FinalDecay(share=0.2, shape="linear", ends_early=True)
    assert decay != FinalDecay(share=0.2, shape="linear")
    assert FinalDecay(0.2).from_now(8, 60, 0.1) == (8, 52, 0.1)


def test_configuration():
    decay = FinalDecay(0.3, "sqrt")
    callback = FDRCallback(rule=DriftRule(), final_decay=decay)
    again = FDRCallback.from_config(callback.get_config())
    assert again.final_decay == decay and again.rule == DriftRule()
    old = callback.get_config()
    del old["final_decay"]
    assert FDRCallback.from_config(old).final_decay is None


@pytest.mark.parametrize(
    "error, arguments",
    [
        (TypeError, {"final_decay": 0.25}),
        (ValueError, {"final_decay": FinalDecay(), "factor": 0.5}),
        (ValueError, {"final_decay": FinalDecay(), "on_stationary": print}),
        (
            ValueError,
            {"final_decay": FinalDecay(), "stop_at_minimum": True, "min_lr": 0.1},
        ),
    ],
)
def test_refused(error, arguments):
    with pytest.raises(error, match=r"final_decay.*Received"):
        FDRCallback(**arguments)


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_share_out_of_range(share):
    with pytest.raises(ValueError, match="share"):
        FinalDecay(share)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="shape='cosine'"):
        FinalDecay(shape="cosine")


def test_schedules_are_refused(digits):
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    model = compiled(FDRSGD(schedule, l2=0.01))
    with pytest.raises(ValueError, match="follows a schedule"):
        fit(model, digits, [callback_of("d", factor=None)], epochs=1)


def test_loop_around_an_exported_trainer(digits, tmp_path):
    """`FinalDecay`'s functions set the rates of a loop of one's own, as in `fit`."""
    model = compiled(FDRSGD(0.1, l2=0.01))
    export_trainer(model, tmp_path / "trainer")
    trainer = tf.saved_model.load(str(tmp_path / "trainer"))
    x, y = digits
    decay, epochs, eta, seen = FinalDecay(0.1, "linear", True), 20, 0.1, []
    span = decay.planned(epochs, eta)
    for epoch in range(epochs):
        if epoch >= span.end:
            break
        rate = decay.rate(span, epoch)
        if np.float32(rate) != np.float32(trainer.learning_rate()):
            trainer.set_learning_rate(rate)
        trainer.train_step(x[:50], y[:50])
        seen.append(float(trainer.learning_rate()))
        if epoch == 3:  # Stationary.
            span = decay.from_now(epoch + 1, epochs, eta)
    np.testing.assert_allclose(seen, [0.1] * 4 + [0.075, 0.025], rtol=1e-6)


def test_of_a_stock_optimizer(digits):
    model = compiled(keras.optimizers.AdamW(0.01))
    history = fit(model, digits, [callback_of("sddd", 0.25)], epochs=4)
    np.testing.assert_allclose(history["learning_rate"], [0.01, 0.005], rtol=1e-6)
