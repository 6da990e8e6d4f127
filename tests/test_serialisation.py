"""Configurations and copies, held against those of Keras' own SGD."""

import copy
import json

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_fdr import (
    FDRSGD,
    ConfidenceRule,
    DriftRule,
    FDRCallback,
    FDRObservables,
    Record,
    ThresholdRule,
)

X = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
Y = X[:, :1] - X[:, 1:2]

stock_loses_its_state = pytest.mark.filterwarnings(
    "ignore:Skipping variable loading for optimizer 'sgd"
)


def linear(optimizer):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


def through_json(config):
    return json.loads(json.dumps(config))


OPTIMIZERS = {
    "defaults": {},
    "all": {
        "learning_rate": 0.03,
        "momentum": 0.9,
        "dampening": 0.2,
        "l2": 0.01,
        "clipnorm": 0.5,
        "gradient_accumulation_steps": 2,
        "loss_scale_factor": 4.0,
        "use_ema": True,
        "ema_momentum": 0.9,
        "name": "mine",
    },
    "schedule": {
        "learning_rate": keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9),
        "global_clipnorm": 1.0,
    },
}

BACK = {
    "from_config": lambda o: FDRSGD.from_config(o.get_config()),
    "deserialize": lambda o: keras.optimizers.deserialize(
        through_json(keras.optimizers.serialize(o))
    ),
    "get": lambda o: keras.optimizers.get(through_json(keras.optimizers.serialize(o))),
    "deepcopy": copy.deepcopy,
}


def settings(config):
    """A configuration without the names that Keras counts up."""
    return {k: v for k, v in through_json(config).items() if k != "name"}


@pytest.mark.parametrize("back", BACK)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer(name, back):
    """All arguments come back; where all are set the run is bitwise the same."""
    observables = FDRObservables(capacity=8, center="initial", per_variable=True)
    optimizer = FDRSGD(observables=observables, **OPTIMIZERS[name])
    other = BACK[back](optimizer)
    assert type(other) is FDRSGD and other is not optimizer
    assert other.observables is not observables
    one_config, other_config = optimizer.get_config(), other.get_config()
    assert settings(one_config) == settings(other_config)
    for key, value in OPTIMIZERS[name].items():
        given = keras.saving.serialize_keras_object(value)
        if isinstance(value, float):
            given = pytest.approx(value, rel=1e-6)
        assert other_config[key] == given
    assert other_config["observables"]["config"]["capacity"] == 8
    if name == "all":
        assert_same_run(optimizer, other)


def assert_same_run(*optimizers):
    models = [linear(o) for o in optimizers]
    models[1].set_weights(models[0].get_weights())
    for model in models:
        model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    for pair in zip(*(m.get_weights() for m in models), strict=True):
        np.testing.assert_array_equal(*pair)
    np.testing.assert_array_equal(*(o.observables.record().sums for o in optimizers))


def test_configuration_of_a_built_optimizer_fits_another_model():
    observables = FDRObservables(center="initial", per_variable=True)
    optimizer = FDRSGD(0.05, momentum=0.9, observables=observables)
    linear(optimizer).fit(X, Y, epochs=1, verbose=0)
    other = keras.optimizers.get(keras.optimizers.serialize(optimizer))
    layers = [keras.Input((6,)), keras.layers.Dense(4), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(other, "mse")
    model.fit(X, Y, epochs=1, verbose=0)
    shapes = [tuple(v.shape) for v in model.trainable_variables]
    assert [tuple(v.shape) for v in other.observables.theta_center] == shapes
    assert len(other.observables.record_by_variable()) == 4


def test_optimizer_by_name_and_inside_loss_scaling():
    assert type(keras.optimizers.get("keras_fdr>FDRSGD")) is FDRSGD
    optimizer = FDRSGD(momentum=0.9)
    assert keras.optimizers.get(optimizer) is optimizer
    scaled = keras.optimizers.LossScaleOptimizer(optimizer)
    back = keras.optimizers.get(through_json(keras.optimizers.serialize(scaled)))
    assert type(back.inner_optimizer) is FDRSGD
    assert back.inner_optimizer.momentum == 0.9


def stock():
    return keras.optimizers.SGD(0.05, momentum=0.9)


def mine():
    return FDRSGD(0.05, momentum=0.9, l2=0.01)


def distinct(one, other):
    return not {id(v) for v in one.variables} & {id(v) for v in other.variables}


def copied_model(make, built):
    """What a copy of a model is like."""
    model = linear(make())
    if built:
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    other = copy.deepcopy(model)
    found = {
        "compiled": other.compiled,
        "same class": type(other.optimizer) is type(model.optimizer),
        "distinct": distinct(model, other)
        and distinct(model.optimizer, other.optimizer),
        "weights": all(
            np.array_equal(*pair)
            for pair in zip(model.get_weights(), other.get_weights(), strict=True)
        ),
        "steps": int(other.optimizer.iterations),
        "velocities": [
            np.array_equal(a, b)
            for a, b in zip(
                model.optimizer.variables[2:4],
                other.optimizer.variables[2:4],
                strict=built,  # Keras builds the optimizer of a copy.
            )
        ],
    }
    other.fit(X, Y, batch_size=8, epochs=1, verbose=0)
    found["steps later"] = (
        int(other.optimizer.iterations),
        int(model.optimizer.iterations),
    )
    return found, other


@pytest.mark.parametrize("built", [False, True])
@stock_loses_its_state
def test_copy_of_a_model(built):
    expected, _ = copied_model(stock, built)
    found, other = copied_model(mine, built)
    assert found == expected
    # Beyond Keras' own: the record goes along.
    assert other.optimizer.observables.record().steps == (12 if built else 4)


@pytest.mark.parametrize("built", [False, True])
@stock_loses_its_state
def test_copy_of_an_optimizer(built):
    """A copy is not built, as with Keras."""
    for make in (stock, mine):
        optimizer = make()
        if built:
            linear(optimizer).fit(X, Y, epochs=2, verbose=0)
        other = copy.deepcopy(optimizer)
        assert type(other) is type(optimizer) and not other.built
        assert [v.name for v in other.variables] == ["iteration", "learning_rate"]
        assert distinct(optimizer, other)


@pytest.mark.parametrize("built", [False, True])
def test_clone_model(built):
    """A clone is compiled alike, with an optimizer of its own that has not stepped."""
    for make in (stock, mine):
        model = linear(make())
        if built:
            model.fit(X, Y, epochs=2, verbose=0)
        other = keras.models.clone_model(model)
        assert other.compiled and type(other.optimizer) is type(model.optimizer)
        assert other.optimizer is not model.optimizer
        assert int(other.optimizer.iterations) == 0
        assert settings(other.optimizer.get_config()) == settings(
            model.optimizer.get_config()
        )
        other.fit(X, Y, epochs=1, verbose=0)
        assert int(model.optimizer.iterations) == 2 * built
    assert other.optimizer.observables.record().steps == 1


def test_copy_of_the_layer():
    """With its record, which then goes its own way."""
    observables = FDRObservables(capacity=4, per_variable=True)
    arguments = {"learning_rate": tf.constant(0.1), "momentum": 0.0, "dampening": 0.0}

    def step(layer):
        layer([tf.ones(3)], [tf.ones(3)], [], **arguments)

    assert copy.deepcopy(observables).get_config() == observables.get_config()
    step(observables)
    other = copy.deepcopy(observables)
    np.testing.assert_array_equal(observables.record().sums, other.record().sums)
    step(other)
    assert (observables.record().steps, other.record().steps) == (1, 2)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"capacity": 8, "center": "initial", "per_variable": True, "name": "mine"}],
)
def test_layer(arguments):
    layer = FDRObservables(**arguments)
    for other in (
        FDRObservables.from_config(through_json(layer.get_config())),
        keras.layers.deserialize(through_json(keras.layers.serialize(layer))),
    ):
        assert other.get_config() == layer.get_config()
        for name, value in arguments.items():
            assert getattr(other, name) == value


RULES = {
    "threshold": ThresholdRule(0.2),
    "sasa": ConfidenceRule("sasa"),
    "sasa+": ConfidenceRule("sasa+"),
    "drift": DriftRule(false_alarm=0.1, margin=0.5),
}


@pytest.mark.parametrize("name", RULES)
def test_rules(name, rng):
    """By themselves and by Keras; the same verdict to the last digit."""
    rule = RULES[name]
    rows = np.ones((2000, 5))
    rows[:, 0] += rng.normal(0.1, 0.3, 2000)
    record = Record(rows, steps=2000)
    for other in (
        type(rule).from_config(through_json(rule.get_config())),
        keras.saving.deserialize_keras_object(
            through_json(keras.saving.serialize_keras_object(rule))
        ),
    ):
        assert type(other) is type(rule) and other is not rule
        assert vars(other) == vars(rule)
        assert other(record) == rule(record)


def test_arguments_of_rules_are_all_in_their_configuration():
    import inspect

    for rule in RULES.values():
        assert list(inspect.signature(type(rule)).parameters) == list(rule.get_config())


@pytest.mark.parametrize("name", RULES)
def test_callback(name):
    callback = FDRCallback(
        rule=RULES[name],
        factor=0.7,
        min_lr=1e-3,
        stop_at_minimum=True,
        reset_velocities_on_cut=True,
        verbose=2,
    )
    for other in (
        FDRCallback.from_config(through_json(callback.get_config())),
        keras.saving.deserialize_keras_object(
            through_json(keras.saving.serialize_keras_object(callback))
        ),
    ):
        assert vars(other.rule) == vars(RULES[name])
        ours, theirs = dict(vars(callback)), dict(vars(other))
        assert type(ours.pop("rule")) is type(theirs.pop("rule"))
        assert ours == theirs


def test_callback_by_default_and_with_a_threshold():
    for arguments, threshold in (({}, 0.01), ({"threshold": 0.4}, 0.4)):
        config = through_json(FDRCallback(**arguments).get_config())
        assert FDRCallback.from_config(config).rule.threshold == threshold
    assert FDRCallback.from_config(FDRCallback(factor=None).get_config()).factor is None


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"rule": lambda record: None}, "rule=<function"),
        ({"on_stationary": print}, "on_stationary=<built-in"),
        ({"full_batch": (X, Y)}, "full_batch=a dataset"),
    ],
)
def test_callback_refuses_functions_and_datasets(arguments, name):
    with pytest.raises(ValueError, match=f"cannot hold functions.* Received: {name}"):
        FDRCallback(**arguments).get_config()


def deep_copies():
    pairs = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    return {"none": None, "arrays": (X, Y), "dataset": pairs}


@pytest.mark.parametrize("kind", ["none", "arrays", "dataset"])
@pytest.mark.parametrize("used", [False, True])
def test_a_deep_copy_of_the_callback_works_like_it(kind, used):
    full_batch = deep_copies()[kind]
    callback = FDRCallback(threshold=0.5, factor=0.7, full_batch=full_batch)
    arguments = {"epochs": 3, "verbose": 0, "shuffle": False}
    if used:
        linear(FDRSGD(0.05, l2=0.01)).fit(X, Y, callbacks=[callback], **arguments)
    made = copy.deepcopy(callback)
    assert made.cuts == [] and made.factor == 0.7
    logs = []
    for each in (callback, made):
        keras.utils.set_random_seed(0)
        model = linear(FDRSGD(0.05, l2=0.01))
        logs.append(model.fit(X, Y, callbacks=[each], **arguments).history)
    assert logs[0].keys() == logs[1].keys()
    for name in logs[0]:
        np.testing.assert_array_equal(logs[0][name], logs[1][name])


class Unnamed(keras.Model):
    """Its layers get other names in each copy."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.last = keras.layers.Dense(3), keras.layers.Dense(1)

    def call(self, x):
        return self.last(self.hidden(x))


def sequential():
    layers = [keras.layers.Dense(3), keras.layers.Dense(1)]
    return keras.Sequential([keras.Input((6,)), *layers])


@pytest.mark.parametrize("make", [sequential, Unnamed])
def test_names_of_weight_tensors_stay_after_loading(tmp_path, make):
    def compiled(model):
        observables = FDRObservables(per_variable=True)
        model.compile(FDRSGD(0.05, l2=0.01, observables=observables), "mse")
        return model

    def names(model):
        return list(model.optimizer.observables.record_by_variable())

    model = compiled(make())
    model.fit(X, Y, verbose=0)
    expected = [w.path for w in model.trainable_variables]
    assert names(model) == expected
    path = tmp_path / "m.keras"
    model.save(path)
    loaded = keras.saving.load_model(path, custom_objects={"Unnamed": Unnamed})
    assert names(loaded) == expected
    loaded.fit(X, Y, verbose=0)
    assert names(loaded) == expected
    model.save_weights(tmp_path / "m.weights.h5")
    new = compiled(make())
    new(X)
    new.load_weights(tmp_path / "m.weights.h5")
    new.fit(X, Y, verbose=0)
    assert names(new) == expected


def test_a_file_without_names_still_loads(tmp_path):
    """Earlier versions did not write them."""
    observables = FDRObservables(per_variable=True)
    model = linear(FDRSGD(0.05, l2=0.01, observables=observables))
    model.fit(X, Y, verbose=0)
    path = tmp_path / "m.weights.h5"
    model.save_weights(path)
    with h5py.File(path, "r+") as file:
        del file["optimizer/observables/by_variable/vars/names"]
    observables = FDRObservables(per_variable=True)
    new = linear(FDRSGD(0.05, l2=0.01, observables=observables))
    new.load_weights(path)
    new.optimizer.build(new.trainable_variables)
    assert list(observables.record_by_variable()) == [w.path for w in new.weights]


PARTS = ["observables", "observables/blocks", "cut_table", "progress"]


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("part", PARTS)
def test_a_file_without_a_part_of_the_state_is_refused(tmp_path, part, built):
    model = linear(FDRSGD(0.05, l2=0.01))
    model.fit(X, Y, verbose=0)
    path = tmp_path / "m.weights.h5"
    model.save_weights(path)
    with h5py.File(path, "r+") as file:
        del file[f"optimizer/{part}/vars"]
    new = linear(FDRSGD(0.05, l2=0.01))
    if built:
        new.optimizer.build(new.trainable_variables)
    with pytest.raises(ValueError, match="Received: a file with nothing in that place"):
        new.load_weights(path)
    # What was expected of that file is not expected of the next.
    if not built:
        linear("sgd").save_weights(tmp_path / "weights_only.weights.h5")
        with h5py.File(tmp_path / "weights_only.weights.h5", "r+") as file:
            file.pop("optimizer", None)
        new.load_weights(tmp_path / "weights_only.weights.h5")
