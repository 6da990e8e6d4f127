"""FDRCallback: the rule in `fit`, the cuts, the logs, and what it notices."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_fdr import (
    FDRSGD,
    ConfidenceRule,
    Cut,
    DriftRule,
    FDRCallback,
    FDRObservables,
    ThresholdRule,
    Verdict,
    shuffled_batches,
)


def compiled(optimizer, **arguments):
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, **arguments)
    return model


def fit(model, digits, callbacks, epochs=3, batch_size=50, **arguments):
    batches = shuffled_batches(*digits, batch_size, seed=0)
    arguments = {"shuffle": False, "verbose": 0, "callbacks": callbacks, **arguments}
    return model.fit(batches, epochs=epochs, **arguments).history


class Script:
    """A rule that says what it is told, one letter an epoch."""

    def __init__(self, statuses):
        names = {"s": "stationary", "d": "drifting", "u": "undecided"}
        self.statuses = [names[letter] for letter in statuses]
        self.records = []

    def __call__(self, record):
        status = self.statuses[len(self.records)]
        self.records.append(record)
        return Verdict(status, record.ratio, record.steps, f"told so: {status}.")


def test_cuts_when_stationary_and_sets_t_to_0(digits):
    rule = Script("dsdus")
    callback = FDRCallback(rule=rule, factor=0.75, all_columns=True)
    model = compiled(FDRSGD(0.1, 0.9, l2=0.01))
    history = fit(model, digits, [callback], epochs=5)
    eta = np.float32([0.1, 0.1, 0.075, 0.075, 0.075])
    np.testing.assert_allclose(history["learning_rate"], eta, rtol=1e-6)
    assert float(model.optimizer.learning_rate.numpy()) == pytest.approx(0.05625)
    assert history["fdr_stationary"] == [0, 1, 0, 0, 1]
    assert [record.steps for record in rule.records] == [4, 8, 4, 8, 12]
    assert [c.epoch for c in callback.cuts] == [2, 5]
    first = callback.cuts[0]
    assert first.old_learning_rate == pytest.approx(0.1)
    assert first.new_learning_rate == pytest.approx(0.075)
    assert first.ratio == rule.records[1].ratio
    assert "Epoch 2" in first.reason and "from 0.1 to 0.075" in first.reason


def test_logs_are_the_records(digits):
    rule = Script("ddd")
    callback = FDRCallback(rule=rule, all_columns=True)
    history = fit(compiled(FDRSGD(0.1, l2=0.01)), digits, [callback])
    for i, record in enumerate(rule.records):
        for name in ("dissipation", "fluctuation"):
            assert history[f"fdr_{name}"][i] == record.half_running_average(name)
        assert history["fdr_ratio"][i] == record.ratio
    assert callback.record is rule.records[-1]
    assert callback.verdict.reason == "told so: drifting."


def test_the_papers_rule(digits):
    """Every epoch's decision against |Ō_L/Ō_R − 1| < X, from the logs alone."""
    callback = FDRCallback(threshold=0.2, factor=0.7, all_columns=True)
    model = compiled(FDRSGD(0.3, 0.9, l2=0.05))
    history = fit(model, digits, [callback], epochs=40)
    ratio = np.array(history["fdr_dissipation"]) / history["fdr_fluctuation"]
    np.testing.assert_allclose(history["fdr_ratio"], ratio, rtol=1e-12)
    stationary = np.abs(ratio - 1) < 0.2
    np.testing.assert_array_equal(history["fdr_stationary"], stationary)
    assert 0 < stationary.sum() < 40
    assert [c.epoch for c in callback.cuts] == list(1 + np.flatnonzero(stationary))
    cuts_before = np.concatenate([[0], np.cumsum(stationary)[:-1]])
    expected = 0.3 * 0.7**cuts_before
    np.testing.assert_allclose(history["learning_rate"], expected, rtol=1e-5)


def test_minimum(digits):
    callback = FDRCallback(rule=Script("ssss"), factor=0.5, min_lr=0.04)
    history = fit(compiled(FDRSGD(0.1, l2=0.01)), digits, [callback], epochs=4)
    eta = [0.1, 0.05, 0.04, 0.04]
    np.testing.assert_allclose(history["learning_rate"], eta, rtol=1e-6)
    assert len(callback.cuts) == 2


def test_stop_at_minimum(digits):
    callback = FDRCallback(
        rule=Script("sssd"), factor=0.5, min_lr=0.04, stop_at_minimum=True
    )
    history = fit(compiled(FDRSGD(0.1, l2=0.01)), digits, [callback], epochs=9)
    np.testing.assert_allclose(history["learning_rate"], [0.1, 0.05, 0.04], rtol=1e-6)


@pytest.mark.parametrize("reset", [False, True])
def test_reset_velocities_on_cut(digits, reset):
    callback = FDRCallback(rule=Script("s"), reset_velocities_on_cut=reset)
    model = compiled(FDRSGD(0.1, 0.9, l2=0.01))
    fit(model, digits, [callback], epochs=1)
    moving = any(np.abs(v.numpy()).max() > 0 for v in model.optimizer.velocities)
    assert moving != reset


def test_two_fits_continue_one_record(digits):
    model = compiled(FDRSGD(0.1, l2=0.01))
    for epochs in (1, 2):
        callback = FDRCallback(rule=Script("dd"))
        fit(model, digits, [callback], epochs=epochs)
    assert callback.record.steps == 12


def test_cuts_outlive_the_callback(digits):
    model = compiled(FDRSGD(0.1, l2=0.01))
    for _ in range(2):
        callback = FDRCallback(rule=Script("s"))
        fit(model, digits, [callback], epochs=1)
    assert [round(c.new_learning_rate, 4) for c in callback.cuts] == [0.09, 0.081]
    assert FDRCallback().cuts == []


def test_cut_table_keeps_the_newest():
    optimizer = FDRSGD(0.1)
    optimizer.cut_table.size = 3
    optimizer.build([keras.Variable([1.0])])
    cuts = [Cut(i, 0.1, 0.09, 1.0) for i in range(5)]
    for cut in cuts:
        optimizer.cut_table.append(cut)
    assert optimizer.cut_table.read() == cuts[2:]


def test_prints_the_reason(digits, capsys):
    callback = FDRCallback(rule=Script("ds"), verbose=1)
    fit(compiled(FDRSGD(0.1, l2=0.01)), digits, [callback], epochs=2)
    printed = capsys.readouterr().out.strip()
    told = "Epoch 2: learning rate cut from 0.1 to 0.09. told so: stationary."
    assert printed == told


def test_measures_without_cutting(digits):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([5], [0.1, 0.05])
    callback = FDRCallback(factor=None, rule=Script("sss"), all_columns=True)
    history = fit(compiled(FDRSGD(schedule, l2=0.01)), digits, [callback])
    assert callback.cuts == []
    assert history["fdr_stationary"] == [1, 1, 1]
    np.testing.assert_allclose(history["learning_rate"], [0.1, 0.05, 0.05], rtol=1e-6)
    # Steps 0 to 5 at 0.1, then a record of its own for 0.05.
    assert callback.record.steps == 6


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(digits, policy):
    keras.config.set_dtype_policy(policy)
    callback = FDRCallback(rule=Script("ds"))
    model = compiled(FDRSGD(0.1, l2=0.01))
    fit(model, digits, [callback], epochs=2)
    assert callback.record.steps == 8
    assert len(callback.cuts) == 1
    assert float(model.optimizer.learning_rate.numpy()) == pytest.approx(0.09)
    # The loss is recorded unscaled.
    assert 0.5 < callback.record.half_running_average("loss") < 5


def schedules():
    return [keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9), lambda: 0.1]


@pytest.mark.parametrize("number", [0, 1])
def test_two_schedulers_are_refused(digits, number):
    model = compiled(FDRSGD(schedules()[number], l2=0.01))
    before = model.get_weights()
    with pytest.raises(ValueError, match="two schedulers .*`factor=None`.*Received"):
        fit(model, digits, [FDRCallback()])
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"threshold": 0}, "`threshold` must be above 0. Received: threshold=0"),
        ({"threshold": -1}, "threshold=-1"),
        ({"factor": 0}, "`factor` must be above 0 and below 1. Received: factor=0"),
        ({"factor": 1.0}, r"factor=1\.0"),
        ({"min_lr": -0.1}, "at least 0. Received: min_lr=-0.1"),
        ({"stop_at_minimum": True}, "`stop_at_minimum` needs .*min_lr=0"),
        ({"threshold": 0.5, "rule": ThresholdRule()}, "pass it to `rule`.*=0.5"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FDRCallback(**arguments)


def test_refused_rule():
    with pytest.raises(TypeError, match="`Record -> Verdict`. Received: rule=0.01"):
        FDRCallback(rule=0.01)


@pytest.mark.parametrize("rule", [None, Script("ss")])
def test_nan_makes_no_cut_and_is_warned_of_once(digits, rule):
    """Training goes on as it would, whatever the rule says; one warning is given."""
    x, y = digits
    x = x.copy()
    x[120] = np.nan
    callback = FDRCallback(rule=rule)
    model = compiled(FDRSGD(0.1, l2=0.01))
    with pytest.warns(UserWarning, match="NaN or infinite at step 3 ") as caught:
        options = {"epochs": 2, "shuffle": False, "verbose": 0}
        history = model.fit(x, y, 50, callbacks=[callback], **options).history
    messages = [str(w.message) for w in caught]
    # The other note is that training is too short for the ratio to settle.
    assert sum("planned" not in message for message in messages) == 1
    assert callback.cuts == []
    assert rule or callback.verdict.status == "undecided"
    assert np.isnan(history["fdr_ratio"]).all()
    assert np.isnan(model.get_weights()[0]).any()


class Meddler(keras.callbacks.Callback):
    """Does something to the model at one moment."""

    def __init__(self, action, epoch=1, batch=None):
        super().__init__()
        self.action, self.at = action, (epoch, batch)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if self.at == (epoch, None):
            self.action(self.model)

    def on_train_batch_begin(self, batch, logs=None):
        if self.at == (self.epoch, batch):
            self.action(self.model)


def set_learning_rate(model):
    model.optimizer.learning_rate = 0.05


def set_weights(model):
    model.set_weights([1.01 * w for w in model.get_weights()])


@pytest.mark.parametrize("batch, left", [(None, 8), (1, 7)])
@pytest.mark.parametrize("first", [False, True])
def test_a_changed_learning_rate_is_noticed(digits, batch, left, first):
    meddler = Meddler(set_learning_rate, batch=batch)
    callback = FDRCallback(rule=Script("ddd"))
    callbacks = [meddler, callback] if first else [callback, meddler]
    message = re.escape("(from 0.1 to 0.05): the record restarted at t = 0")
    with pytest.warns(UserWarning, match=message) as caught:
        fit(compiled(FDRSGD(0.1, l2=0.01)), digits, callbacks)
    assert len(caught) == 1
    assert callback.record.steps == left


def test_weights_set_between_fits_are_noticed(digits):
    model = compiled(FDRSGD(0.1, l2=0.01))
    fit(model, digits, [FDRCallback(rule=Script("dd"))], epochs=2)
    set_weights(model)
    callback = FDRCallback(rule=Script("d"))
    with pytest.warns(
        UserWarning, match="velocities were changed .* restarts at t = 0"
    ):
        fit(model, digits, [callback], epochs=1)
    assert callback.record.steps == 4


def test_weights_set_between_epochs_are_noticed(digits):
    callback = FDRCallback(rule=Script("dddd"))
    with pytest.warns(UserWarning, match="velocities were changed") as caught:
        model = compiled(FDRSGD(0.1, l2=0.01))
        fit(model, digits, [Meddler(set_weights, epoch=2), callback], epochs=4)
    assert len(caught) == 1
    assert callback.record.steps == 8


def test_the_average_put_in_place_of_the_weights_is_noticed(digits):
    model = compiled(FDRSGD(0.1, l2=0.01, use_ema=True, ema_momentum=0.9))
    fit(model, digits, [FDRCallback(rule=Script("dd"))], epochs=2)
    with pytest.warns(UserWarning, match="average that `use_ema` puts"):
        fit(model, digits, [FDRCallback(rule=Script("d"))], epochs=1)


def test_no_l2_is_noted_once(digits):
    callback = FDRCallback(rule=Script("dddd"))
    model = compiled(FDRSGD(0.1))
    with pytest.warns(UserWarning, match=r"no L2 term .*need not exist") as caught:
        fit(model, digits, [callback], epochs=2)
        fit(model, digits, [callback], epochs=2)
    assert len(caught) == 1


def test_a_regulariser_in_the_layers_is_an_l2_term(digits):
    layer = keras.layers.Dense(10, kernel_regularizer="l2")
    model = keras.Sequential([keras.Input((64,)), layer])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=FDRSGD(0.1), loss=loss)
    fit(model, digits, [FDRCallback(rule=Script("d"))], epochs=1)


def test_no_fluctuation(digits):
    callback = FDRCallback()
    fit(compiled(FDRSGD(0.0, l2=0.01)), digits, [callback])
    assert callback.verdict.status == "undecided"
    assert "exactly 0" in callback.verdict.reason


def test_works_eagerly(digits):
    callback = FDRCallback(rule=Script("sd"))
    observables = FDRObservables(capacity=4, center="initial")
    optimizer = FDRSGD(0.1, 0.9, l2=0.01, observables=observables)
    model = compiled(optimizer, run_eagerly=True)
    fit(model, digits, [callback], epochs=2)
    assert callback.record.steps == 4


def test_stock_callbacks_see_the_columns(digits, tmp_path):
    log = tmp_path / "log.csv"
    callbacks = [
        FDRCallback(rule=Script("dd"), all_columns=True),
        keras.callbacks.CSVLogger(log),
    ]
    fit(compiled(FDRSGD(0.1, l2=0.01)), digits, callbacks, epochs=2)
    header = log.read_text().splitlines()[0].split(",")
    columns = {"learning_rate", "fdr_dissipation", "fdr_fluctuation", "fdr_ratio"}
    assert columns | {"fdr_stationary"} < set(header)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_line_of_an_epoch_has_few_columns(digits, optimizer):
    model = compiled(FDRSGD(0.1, l2=0.01) if optimizer == "sgd" else optimizer)
    history = fit(model, digits, [FDRCallback(factor=None)], epochs=1)
    columns = {"learning_rate", "fdr_ratio"}
    # With Adam's preconditioner, the noise's part of the loss is not known.
    columns |= {"fdr_noise_loss"} if optimizer == "sgd" else set()
    assert set(history) == {"loss", *columns}


def test_on_stationary_is_called_instead_of_a_cut(digits):
    model = compiled(FDRSGD(0.1, l2=0.01))
    calls = []

    def stop(model, verdict):
        calls.append(verdict.reason)
        model.stop_training = len(calls) == 2

    rule = Script("dsds")
    callback = FDRCallback(rule=rule, on_stationary=stop)
    history = fit(model, digits, [callback], epochs=9)
    assert len(history["loss"]) == 4
    assert calls == ["told so: stationary."] * 2
    assert callback.cuts == []
    assert len(set(history["learning_rate"])) == 1
    # As after a cut, the record begins anew.
    assert [record.steps for record in rule.records] == [4, 8, 4, 8]


@pytest.mark.parametrize("arguments", [{"factor": 0.7}, {"min_lr": 0.01}])
def test_on_stationary_leaves_no_place_for_a_cut(arguments):
    with pytest.raises(ValueError, match="called instead of a cut"):
        FDRCallback(on_stationary=print, **arguments)


@pytest.mark.parametrize("rule", [DriftRule(), ConfidenceRule("sasa+")])
def test_other_rules_in_fit(digits, rule):
    callback = FDRCallback(rule=rule, factor=0.5)
    fit(compiled(FDRSGD(0.1, l2=0.01)), digits, [callback], epochs=3)
    # The callback adds how long the record is, compared with the L2 term's time.
    assert callback.verdict.reason.startswith(rule(callback.record).reason)


def test_on_stationary_must_be_a_function():
    with pytest.raises(TypeError, match="on_stationary='stop'"):
        FDRCallback(on_stationary="stop")


class SettingTheNextRate(keras.callbacks.Callback):
    """Halves the rate at an epoch's end, as users' own schedules do."""

    def on_epoch_end(self, epoch, logs=None):
        optimizer = self.model.optimizer
        optimizer.learning_rate = 0.5 * float(optimizer.learning_rate.numpy())


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        SettingTheNextRate,
        lambda: keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 / 2**epoch),
        lambda: keras.callbacks.ReduceLROnPlateau(
            "loss", factor=0.5, patience=1, min_delta=100.0
        ),
    ],
)
def test_the_logs_have_the_rate_of_the_epoch(digits, make, first):
    other, ours = make(), FDRCallback(factor=None, all_columns=True)
    callbacks = [other, ours] if first else [ours, other]
    model = compiled(FDRSGD(0.1, l2=0.01))
    used = []
    spy = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: (
            batch or used.append(float(model.optimizer.learning_rate.numpy()))
        )
    )
    history = fit(model, digits, [*callbacks, spy], epochs=4)
    assert len(set(used)) > 2
    np.testing.assert_array_equal(history["fdr_learning_rate"], used)
    np.testing.assert_array_equal(history["learning_rate"], used)


@pytest.mark.parametrize("returned", [None, "stationary", True])
def test_a_rule_must_return_a_verdict(digits, returned):
    callback = FDRCallback(rule=lambda record: returned)
    message = f"`rule` must return a `Verdict` .*Received: {returned!r} from"
    with pytest.raises(TypeError, match=message):
        fit(compiled(FDRSGD(0.1, l2=0.01)), digits, [callback], epochs=1)


def test_a_class_is_no_rule():
    with pytest.raises(TypeError, match=r"`rule=DriftRule\(\)`. Received: rule=<class"):
        FDRCallback(rule=DriftRule)


@pytest.mark.parametrize("name", ["threshold", "factor", "min_lr", "verbose"])
@pytest.mark.parametrize("value", ["x", [], float("nan")])
def test_what_is_no_number_is_refused(name, value):
    with pytest.raises((TypeError, ValueError), match=f"`{name}` .*Received: {name}="):
        FDRCallback(**{name: value})


def test_verbose_is_also_a_boolean():
    for value in (True, False):
        assert FDRCallback(verbose=value).verbose == value
    with pytest.raises(TypeError, match=r"at least 0. Received: verbose=1\.5"):
        FDRCallback(verbose=1.5)


def test_numbers_of_numpy_are_numbers():
    callback = FDRCallback(threshold=np.float32(0.5), factor=np.float64(0.5))
    assert callback.factor == 0.5


@pytest.mark.parametrize("full_batch", [1, "x", (), (np.ones(3),), np.ones((3, 2))])
def test_no_training_set_is_refused_by_the_arguments_name(full_batch):
    with pytest.raises((TypeError, ValueError), match=r"full_batch.*Received: "):
        FDRCallback(full_batch=full_batch)


class OwnStep(keras.Model):
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((y - self(x, training=True)) ** 2)
            loss = self.optimizer.scale_loss(loss) if self.tells else loss
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


@pytest.mark.parametrize("tells", [False, True])
def test_a_step_that_does_not_tell_its_loss_is_noted_once(tells):
    inputs = keras.Input((64,))
    model = OwnStep(inputs, keras.layers.Dense(1)(inputs))
    model.tells = tells
    model.compile(FDRSGD(0.01, l2=0.01))
    x = np.random.default_rng(0).normal(size=(8, 64)).astype("float32")
    callback = FDRCallback(factor=None)

    def train():
        model.fit(x, x[:, :1], epochs=3, verbose=0, callbacks=[callback])

    if tells:
        train()
    else:
        with pytest.warns(UserWarning, match="loss is missing .*`train_step`") as seen:
            train()
        assert len(seen) == 1
    assert np.isnan(callback.record.half_running_average("loss")) != tells
