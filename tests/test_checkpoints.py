"""Every checkpoint format carries all of the state, and refuses what does not fit."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from checkpoint_cases import (
    OPTIMIZERS,
    assert_same_state,
    compiled,
    fit,
    network,
    policy_of,
    state,
    without,
)
from replica_runs import mirrored

from keras_fdr import FDRSGD, FDRCallback, FDRObservables

pytestmark = pytest.mark.filterwarnings("ignore:FDR2 needs mini-batch gradients")


def save_all(model, folder):
    model.save(folder / "by_hand.keras")
    model.save_weights(folder / "by_hand.weights.h5")
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    checkpoint.write(str(folder / "checkpoint"))


@pytest.fixture(scope="module", params=OPTIMIZERS)
def trained(request, digits, tmp_path_factory):
    """A model after two epochs, with the files that callbacks wrote at the end."""
    folder = tmp_path_factory.mktemp("files")
    checkpoint = keras.callbacks.ModelCheckpoint
    callbacks = [
        checkpoint(folder / "by_callback.keras"),
        checkpoint(folder / "by_callback.weights.h5", save_weights_only=True),
    ]
    model = compiled(request.param)
    model.optimizer.build(model.trainable_variables)
    ours(model).observables.restarts.assign(3)
    history = fit(model, digits, epochs=2, callbacks=callbacks)
    np.testing.assert_allclose(history["learning_rate"], [0.1, 0.05], rtol=1e-6)
    # When training ends, `use_ema` puts the average in place of the weights.
    state_at_the_end = state(model)
    save_all(model, folder)
    return request.param, folder, state_at_the_end


def untouched(name, built, **arguments):
    """The same model with other weights and an optimizer that has done nothing."""
    model = compiled(name, seed=1, **arguments)
    if built:
        model.optimizer.build(model.trainable_variables)
    return model


def build(model):
    # Of a `LossScaleOptimizer` a second build would make new variables.
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def ours(model):
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def restore(folder, model):
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    return checkpoint.read(str(folder / "checkpoint"))


def test_the_state_is_not_empty(trained):
    """Each part of it has something to lose."""
    name, _, expected = trained
    once = "optimizer/inner_optimizer" if name.startswith("float16") else "optimizer"
    arrays = {path: value for path, value in expected.items() if path != "model"}
    for part in ("_iterations", "_learning_rate", "cut_table", "observables"):
        inside = [v for p, v in arrays.items() if p.startswith(f"{once}/{part}")]
        assert inside and all(np.any(v) for v in inside), part
    for part, names in {
        "_slots": ("momentum", "average", "accumulation"),
        "_model_variables_moving_average": ("average", "float16 accumulation"),
        "_accumulated_gradients": ("accumulation", "float16 accumulation"),
    }.items():
        inside = [v for p, v in arrays.items() if f"/{part}/" in p]
        assert (name not in names) or (inside and all(np.any(v) for v in inside)), part


def test_keras_file(trained):
    name, folder, expected = trained
    with policy_of(name):
        model = keras.models.load_model(folder / "by_hand.keras")
    assert_same_state(state(model), expected)


@pytest.mark.parametrize("built", [False, True])
def test_weights_file(trained, built):
    name, folder, expected = trained
    model = untouched(name, built)
    if name.startswith("float16") and not built:
        with pytest.warns(UserWarning, match="Skipping .* 'loss_scale_optimizer"):
            model.load_weights(folder / "by_hand.weights.h5")
    else:
        model.load_weights(folder / "by_hand.weights.h5")
    build(model)
    loaded = state(model)
    if name.startswith("float16") and not built:
        # Keras says that it skips the loss scale.
        scale = "optimizer/_variables"
        loaded, expected = without(loaded, scale), without(expected, scale)
    assert_same_state(loaded, expected)


@pytest.mark.parametrize("built", [False, True])
def test_tf_checkpoint(trained, built):
    name, folder, expected = trained
    model = untouched(name, built)
    status = restore(folder, model)
    build(model)
    status.assert_consumed()
    assert_same_state(state(model), expected)


@pytest.mark.parametrize("load", ["weights", "checkpoint"])
def test_fit_builds_after_loading(load, digits, tmp_path):
    """As Keras' guide has it: compile, load, fit, which builds while it traces."""
    name = "momentum"
    model = compiled(name)
    fit(model, digits, epochs=1)
    save_all(model, tmp_path)
    ends = []
    for built in (True, False):
        model = untouched(name, built)
        if load == "weights":
            model.load_weights(tmp_path / "by_hand.weights.h5")
        else:
            restore(tmp_path, model)
        fit(model, digits, epochs=2, initial_epoch=1)
        ends.append(state(model))
    assert_same_state(*ends)


@pytest.mark.parametrize("kind", ["keras", "weights.h5"])
def test_model_checkpoint(trained, kind):
    """Up to the averaged weights, which Keras sets after the last epoch's end."""
    name, folder, expected = trained
    path = folder / f"by_callback.{kind}"
    if kind == "keras":
        with policy_of(name):
            model = keras.models.load_model(path)
    else:
        model = untouched(name, built=True)
        model.load_weights(path)
    loaded = state(model)
    if ours(model).use_ema:
        weights = "model", "_trainable_variables"
        loaded, expected = without(loaded, *weights), without(expected, *weights)
    assert_same_state(loaded, expected)


def test_a_loaded_model_goes_on_bitwise(digits, tmp_path):
    model = compiled("momentum")
    fit(model, digits, epochs=2)
    model.save(tmp_path / "m.keras")
    copy = keras.models.load_model(tmp_path / "m.keras")
    copy.jit_compile = False
    histories = [fit(m, digits, 4, initial_epoch=2) for m in (model, copy)]
    assert histories[0] == histories[1]
    assert_same_state(state(copy), state(model))
    assert len(ours(copy).cut_table.read()) == 1


def test_a_model_that_was_never_trained(tmp_path):
    model = compiled("momentum")
    model.save(tmp_path / "m.keras")
    copy = keras.models.load_model(tmp_path / "m.keras")
    for a, b in zip(model.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def with_observables(capacity=1024, center=None, per_variable=False):
    observables = FDRObservables(capacity, center, per_variable)
    return FDRSGD(0.1, 0.9, l2=0.01, observables=observables)


def built_model(optimizer, units=16):
    model = compiled(optimizer, units)
    model.optimizer.build(model.trainable_variables)
    return model


SCHEDULE = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)

OTHERS = {
    "capacity=512 instead of 1024": lambda: with_observables(512),
    "center=initial instead of None": lambda: with_observables(center="initial"),
    "per_variable=True instead of False": lambda: with_observables(per_variable=True),
    "momentum above 0=False instead of True": lambda: FDRSGD(0.1),
    "use_ema=True instead of False": lambda: FDRSGD(0.1, 0.9, use_ema=True),
    "gradient accumulation=True instead of False": lambda: FDRSGD(
        0.1, 0.9, gradient_accumulation_steps=2
    ),
    "schedule=True instead of False": lambda: FDRSGD(SCHEDULE, 0.9),
}


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("difference", OTHERS)
def test_another_setting_is_refused(tmp_path, difference, built):
    """With both values, also where Keras would only warn, or not notice."""
    path = tmp_path / "other.weights.h5"
    built_model(OTHERS[difference]()).save_weights(path)
    model = compiled(with_observables())
    if built:
        model.optimizer.build(model.trainable_variables)
    with pytest.raises(ValueError, match=rf"Received: a file with .*{difference}"):
        model.load_weights(path)


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("name", ["SGD", "SGD momentum", "Adam"])
def test_another_optimizer_is_refused(tmp_path, name, built):
    """The slots of stock SGD fit in number and shape, but hold η v instead of v."""
    other = {
        "SGD": lambda: keras.optimizers.SGD(0.1),
        "SGD momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
        "Adam": lambda: keras.optimizers.Adam(),
    }[name]()
    path = tmp_path / "other.weights.h5"
    built_model(other).save_weights(path)
    model = compiled(FDRSGD(0.1, 0.9))
    if built:
        model.optimizer.build(model.trainable_variables)
    message = r"FDRSGD '.*Received: a file with variables of another optimizer, .*\(64"
    if name == "SGD":
        message = message.replace(r".*\(64", r"of the shapes \[\(\), \(\)\]")
    with pytest.raises(ValueError, match=message):
        model.load_weights(path)


def test_stock_sgd_does_not_take_velocities_for_its_slots(tmp_path):
    path = tmp_path / "ours.weights.h5"
    model = built_model(FDRSGD(0.1, 0.9))
    for velocity in model.optimizer.velocities:
        velocity.assign(keras.ops.ones_like(velocity))
    model.save_weights(path)
    stock = built_model(keras.optimizers.SGD(0.1, momentum=0.9))
    with pytest.warns(UserWarning, match="Skipping variable loading for optimizer"):
        stock.load_weights(path)
    assert not any(np.any(v.numpy()) for v in stock.optimizer.variables[2:])


@pytest.mark.parametrize("built", [False, True])
def test_another_model_is_refused(tmp_path, built):
    path = tmp_path / "other.weights.h5"
    built_model(FDRSGD(0.1, 0.9), units=8).save_weights(path)
    model = compiled(FDRSGD(0.1, 0.9), units=16)
    if built:
        model.optimizer.build(model.trainable_variables)
    with pytest.raises(ValueError) as error:
        model.load_weights(path)
    # Keras' own words, about the model's first layer.
    assert "(64, 16)" in str(error.value) and "(64, 8)" in str(error.value)


@pytest.mark.parametrize("built", [False, True])
def test_the_optimizer_of_another_model_is_refused(tmp_path, built):
    """Where Keras has nothing against the model, the optimizer has."""
    path = tmp_path / "other.weights.h5"
    other = built_model(FDRSGD(0.1, 0.9))
    other.layers[0].trainable = False
    other.compile(FDRSGD(0.1, 0.9), loss="mse")
    other.optimizer.build(other.trainable_variables)
    other.save_weights(path)
    model = compiled(FDRSGD(0.1, 0.9))

    def load_and_build():
        model.load_weights(path)
        model.optimizer.build(model.trainable_variables)

    def build_and_load():
        model.optimizer.build(model.trainable_variables)
        model.load_weights(path)

    with pytest.raises(ValueError) as error:
        (build_and_load if built else load_and_build)()
    shapes = [
        [(), (), *(tuple(w.shape) for w in m.trainable_weights)] for m in (other, model)
    ]
    message = "of the shapes {} instead of {}, so it is of another model".format(
        *shapes
    )
    assert message in str(error.value)


def test_a_file_without_an_optimizer(tmp_path):
    """The weights alone: taken before the optimizer is built, refused afterwards."""
    path = tmp_path / "plain.weights.h5"
    plain = network()
    plain.save_weights(path)
    model = untouched("momentum", built=False)
    model.load_weights(path)
    for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model = untouched("momentum", built=True)
    with pytest.raises(ValueError, match=r"before `compile`.*a file with nothing in"):
        model.load_weights(path)


@pytest.mark.filterwarnings("ignore:A total of")
@pytest.mark.parametrize("built", [False, True])
def test_the_weights_alone_can_be_had(tmp_path, built):
    """`skip_mismatch=True`, as the error says."""
    path = tmp_path / "stock.weights.h5"
    stock = built_model(keras.optimizers.SGD(0.5, momentum=0.9))
    stock.save_weights(path)
    model = untouched("momentum", built)
    model.load_weights(path, skip_mismatch=True)
    model.optimizer.build(model.trainable_variables)
    for a, b in zip(model.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert float(model.optimizer.learning_rate.numpy()) == np.float32(0.1)


def test_tf_checkpoint_of_another_capacity_is_refused(tmp_path):
    one, other = (built_model(with_observables(n)) for n in (8, 16))
    tf.train.Checkpoint(optimizer=one.optimizer).write(str(tmp_path / "c"))
    with pytest.raises(ValueError) as error:
        tf.train.Checkpoint(optimizer=other.optimizer).read(str(tmp_path / "c"))
    assert "(8, 5)" in str(error.value) and "(16, 5)" in str(error.value)


def test_tf_checkpoint_of_another_optimizer_is_refused_if_asserted(tmp_path):
    stock = built_model(keras.optimizers.SGD(0.1, momentum=0.9))
    tf.train.Checkpoint(optimizer=stock.optimizer).write(str(tmp_path / "c"))
    model = built_model(FDRSGD(0.1, 0.9))
    status = tf.train.Checkpoint(optimizer=model.optimizer).read(str(tmp_path / "c"))
    with pytest.raises(AssertionError, match=r"seal|steps|sums|restarts|count|epoch"):
        status.assert_existing_objects_matched()


def test_backup_of_another_capacity_is_refused(digits, tmp_path):
    def backup():
        return keras.callbacks.BackupAndRestore(
            tmp_path / "backup", double_checkpoint=True, delete_checkpoint=False
        )

    fit(compiled(with_observables(8)), digits, epochs=1, callbacks=[backup()])
    model = compiled(with_observables(16))
    message = r"FDRObservables '.*'.*Received: a file with capacity=8 instead of 16"
    with pytest.raises(ValueError, match=message):
        fit(model, digits, epochs=2, callbacks=[backup()])


def test_rules_have_no_memory(digits):
    """What a rule says depends on the record only: there is nothing to save."""
    from keras_fdr import ConfidenceRule, DriftRule, ThresholdRule

    model = compiled("plain")
    callback = FDRCallback(factor=None)
    model.fit(*digits, batch_size=10, epochs=3, verbose=0, callbacks=[callback])
    record = model.optimizer.observables.record()
    for rule in (
        ThresholdRule(0.3),
        ConfidenceRule("sasa"),
        ConfidenceRule("sasa+"),
        DriftRule(),
    ):
        before = repr(vars(rule))
        first, second = rule(record), rule(record)
        assert str(first) == str(second)
        assert repr(vars(rule)) == before


def test_message_says_what_to_do():
    rule = re.escape("load them before `compile`, or with `skip_mismatch=True`")
    with pytest.raises(ValueError, match=rule):
        built_model(FDRSGD()).optimizer.observables.load_own_variables({})


@pytest.mark.parametrize("trained", ["float16"], indirect=True)
def test_mixed_precision_is_loaded_under_its_policy(trained):
    """Else Keras leaves the loss scale out, and the state does not fit."""
    _, folder, _ = trained
    with pytest.raises(ValueError, match="set the policy `mixed_float16` before"):
        keras.models.load_model(folder / "by_hand.keras")


def two_devices():
    return mirrored(2)


DEVICES = {"one": tf.distribute.get_strategy, "two": two_devices}


@pytest.fixture(scope="module", params=DEVICES)
def trained_on(request, digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    with DEVICES[request.param]().scope():
        model = compiled("momentum", normalised=False)
    fit(model, digits, epochs=2, passes=False)
    save_all(model, folder)
    return request.param, folder, model, state(model)


@pytest.mark.parametrize("after", DEVICES)
@pytest.mark.parametrize("kind", ["keras", "weights.h5", "checkpoint"])
def test_from_some_devices_to_others(trained_on, kind, after):
    _, folder, _, expected = trained_on
    with DEVICES[after]().scope():
        if kind == "keras":
            model = keras.models.load_model(folder / "by_hand.keras")
        else:
            model = untouched("momentum", built=True, normalised=False)
    if kind == "weights.h5":
        model.load_weights(folder / "by_hand.weights.h5")
    elif kind == "checkpoint":
        restore(folder, model).assert_consumed()
    assert_same_state(state(model), expected)


def test_training_goes_on_on_other_devices(trained_on, digits):
    """As on those that it came from, but for the order in which halves add up."""
    before, folder, model, _ = trained_on
    (after,) = DEVICES.keys() - {before}
    with DEVICES[after]().scope():
        copy = untouched("momentum", built=True, normalised=False)
    copy.load_weights(folder / "by_hand.weights.h5")
    for m in (model, copy):
        fit(m, digits, 3, initial_epoch=2, passes=False)
    one, other = ours(model).observables.record(), ours(copy).observables.record()
    assert one.steps == other.steps == 8
    np.testing.assert_allclose(other.sums, one.sums, rtol=1e-4)
    assert ours(copy).cut_table.read() == ours(model).cut_table.read()
