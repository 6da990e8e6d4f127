"""What `export_trainer` refuses, derives, leaves out and leaves alone."""

from pathlib import Path

import export_cases
import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_fdr
from keras_fdr import FDRSGD, FDRCallback, FDRObservables, export_trainer
from keras_fdr.export.signature import default_signature

X = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
Y = X[:, :1] - X[:, 1:2]


def linear(optimizer=None, loss="mse", **kwargs):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    model.compile(optimizer or FDRSGD(0.05, momentum=0.9, l2=0.01), loss, **kwargs)
    return model


def all_variables(model):
    optimizer = model.optimizer
    return [
        *model.variables,
        *model.metrics_variables,
        *optimizer.variables,
        *optimizer.observables.variables,
        *optimizer.cut_table.variables,
    ]


def test_the_model_stays_as_it_is(tmp_path):
    """Metrics of the running epoch and the record too; what is written begins anew."""
    model = linear(metrics=["mae"])
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[FDRCallback(factor=None)])
    model.optimizer.cut_table.count.assign(3)
    before = [v.numpy() for v in all_variables(model)]
    export_trainer(model, tmp_path)
    for value, variable in zip(before, all_variables(model), strict=True):
        np.testing.assert_array_equal(value, variable.numpy())
    trainer = tf.saved_model.load(str(tmp_path))
    assert all(float(value) == 0 for value in trainer.reset_metrics().values())
    first = model.evaluate(X, Y, verbose=0, return_dict=True)
    logs = trainer.train_step(X, Y)
    for name, value in first.items():
        assert float(logs[name]) == pytest.approx(value, rel=1e-5)


def test_lines_of_the_docs(tmp_path, monkeypatch):
    """The lines of its section, as they stand."""
    monkeypatch.chdir(tmp_path)
    section = (Path(__file__).parent.parent / "docs" / "export.md").read_text()
    section = section.split("## Export\n")[1].split("\n## ")[0]
    lines = [line[4:] for line in section.splitlines() if line.startswith("    ")]
    found = {"keras_fdr": keras_fdr, "model": linear(), "batches": [(X, Y)] * 3}
    exec("\n".join(lines), found)
    assert int(found["trainer"].observables()["steps"]) in (0, 3)


def test_running_averages_of_metrics(tmp_path):
    model = linear(FDRSGD(0.0))
    export_trainer(model, tmp_path)
    trainer = tf.saved_model.load(str(tmp_path))
    losses = [np.mean((model(x) - y) ** 2) for x, y in zip(X[:, None], Y, strict=True)]
    for x, y in zip(X, Y, strict=True):
        logs = trainer.train_step(x[None], y[None])
    assert float(logs["loss"]) == pytest.approx(np.mean(losses), rel=1e-5)
    assert float(trainer.reset_metrics()["loss"]) == float(logs["loss"])
    assert float(trainer.train_step(X[:1], Y[:1])["loss"]) == pytest.approx(losses[0])


def test_a_record_of_other_weights_begins_anew(tmp_path):
    """As `fit` does it; here the moving average took the weights' place."""
    model = linear(FDRSGD(0.05, l2=0.01, use_ema=True))
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[FDRCallback(factor=None)])
    with pytest.warns(UserWarning, match="exported record starts at t = 0"):
        export_trainer(model, tmp_path)
    assert model.optimizer.observables.record().steps == 2
    trainer = tf.saved_model.load(str(tmp_path))
    assert int(trainer.observables()["steps"]) == 0
    assert all(np.isnan(average) for average in trainer.half_running_average().values())


def test_steering(tmp_path):
    model = linear(FDRSGD(0.05, 0.9, l2=0.01, observables=FDRObservables(capacity=4)))
    export_trainer(model, tmp_path)
    trainer = tf.saved_model.load(str(tmp_path))
    assert float(trainer.learning_rate()) == np.float32(0.05)
    for _ in range(6):
        trainer.train_step(X, Y)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must come first"):
        trainer.full_batch_gradient()
    for wrong in (-0.1, np.nan, np.inf):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="at least 0. Received"
        ):
            trainer.set_learning_rate(wrong)
    values = trainer.observables()
    assert (int(values["steps"]), int(values["block_length"])) == (6, 2)
    assert int(values["full_batch_steps"]) == 0
    assert float(values["learning_rate"]) == np.float32(0.05)
    assert float(trainer.set_learning_rate(0.02)) == np.float32(0.02)
    assert int(trainer.observables()["steps"]) == 0
    assert np.isnan(trainer.observables()["learning_rate"])
    trainer.train_step(X, Y)
    assert float(trainer.observables()["learning_rate"]) == np.float32(0.02)
    assert int(trainer.observables()["restarts"]) == 0
    velocities = trainer.optimizer_variables[2:]
    assert all(np.any(v) for v in velocities)
    assert int(trainer.reset_velocities()["steps"]) == 0
    assert not any(np.any(v) for v in velocities)
    assert float(trainer.learning_rate()) == np.float32(0.02)


def test_each_variable_once(tmp_path):
    """And nothing of Keras among the objects."""
    model = linear(FDRSGD(0.05, 0.9, observables=FDRObservables(center="initial")))
    export_trainer(model, tmp_path)
    trainer = tf.saved_model.load(str(tmp_path))
    objects = tf.train.TrackableView(trainer).descendants()
    variables = {v.ref() for v in objects if isinstance(v, tf.Variable)}
    assert variables == {v.ref() for v in trainer.state}
    listed = tf.train.list_variables(str(tmp_path / "variables" / "variables"))
    values = [name for name, _ in listed if name.endswith("VARIABLE_VALUE")]
    assert len(values) == len(trainer.state)


class Doubled(keras.Model):
    """Computes its gradient itself."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        x, y = data[:2]
        with tf.GradientTape() as tape:
            loss = 2 * tf.reduce_mean((self(x, training=True) - y) ** 2)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"twice": loss}


@pytest.mark.parametrize("make", [export_cases.classification, linear])
def test_checkpoint_of_one_export_restores_into_another(tmp_path, make):
    """The variables that only the list `state` holds are in the order of the trace."""
    case = make()
    model = getattr(case, "model", case)
    signature = default_signature(model)
    trainers = []
    for name in ("one", "other"):
        export_trainer(model, tmp_path / name)
        trainers.append(tf.saved_model.load(str(tmp_path / name)))
    one, other = trainers
    assert [v.name for v in one.state] == [v.name for v in other.state]
    assert [v.shape for v in one.state] == [v.shape for v in other.state]
    rng = np.random.default_rng(0)
    batch = [
        tf.cast(rng.uniform(0, 2, size=[8, *spec.shape[1:]]), spec.dtype)
        for spec in signature
    ]
    for _ in range(3):
        one.train_step(*batch)
    one.full_batch_add(*batch)
    path = tf.train.Checkpoint(one).save(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(other).restore(path).assert_consumed()
    for a, b in zip(one.state, other.state, strict=True):
        np.testing.assert_array_equal(a, b)
    ended, expected = other.full_batch_gradient(), one.full_batch_gradient()
    for name, value in expected.items():
        np.testing.assert_array_equal(ended[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("path", "error"), [(None, TypeError), (1, TypeError), ("", ValueError)]
)
def test_refuses_what_is_no_path(path, error):
    with pytest.raises(error, match=f"`path` must .* Received: path={path!r}"):
        export_trainer(linear(), path)


def test_own_train_step(tmp_path):
    """It is exported as it is; of its loss nothing is known."""
    model = Doubled()
    model.compile(FDRSGD(0.05, l2=0.01), "mse")
    signature = (tf.TensorSpec([None, 6]), tf.TensorSpec([None, 1]))
    with pytest.warns(
        UserWarning, match=r"left out .*`train_step`.* Received: Doubled"
    ):
        export_trainer(model, tmp_path, signature)
    trainer = tf.saved_model.load(str(tmp_path))
    assert not hasattr(trainer, "full_batch_gradient")
    assert not hasattr(trainer, "full_batch_add")
    here = model.train_on_batch(X, Y, return_dict=True)["twice"]
    assert float(trainer.train_step(X, Y)["twice"]) == pytest.approx(here)
    for pair in zip(model.variables, trainer.model_variables, strict=True):
        np.testing.assert_allclose(*pair, rtol=1e-6)


def test_loss_that_is_no_mean(tmp_path):
    model = linear(loss=keras.losses.MeanSquaredError(reduction="sum"))
    with pytest.warns(UserWarning, match="left out .*reduction='sum'"):
        export_trainer(model, tmp_path)
    trainer = tf.saved_model.load(str(tmp_path))
    assert not hasattr(trainer, "full_batch_gradient")
    assert np.isfinite(trainer.train_step(X, Y)["loss"])


def spec(*shape, dtype="float32"):
    return tf.TensorSpec([None, *shape], dtype)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (export_cases.classification, (spec(6), spec(dtype="int64"))),
        (export_cases.regression, (spec(6), spec(1))),
        (
            export_cases.named_inputs,
            ({"left": spec(2), "right": spec(4)}, spec(1)),
        ),
        (
            export_cases.several_outputs,
            (
                [spec(1, dtype="int32"), spec(6)],
                {"value": spec(1), "kind": spec(dtype="int64")},
            ),
        ),
    ],
)
def test_default_signature(make, expected):
    assert default_signature(make().model) == expected


def test_default_signature_of_lists_and_dictionaries():
    x = keras.Input((3,))
    parts = {
        name: keras.layers.Dense(n, name=name)(x) for name, n in (("a", 1), ("b", 2))
    }
    named, listed = keras.Model(x, parts), keras.Model(x, list(parts.values()))
    for losses in ("mse", {"a": "mse", "b": "mae"}):
        named.compile(FDRSGD(), losses)
        assert default_signature(named) == (spec(3), {"a": spec(1), "b": spec(2)})
    for losses in ("mse", ["mse", keras.losses.Huber()]):
        listed.compile(FDRSGD(), losses)
        assert default_signature(listed) == (spec(3), [spec(1), spec(2)])


def unbuilt():
    model = Doubled()
    model.compile(FDRSGD(), "mse")
    return model


def frozen_afterwards():
    model = export_cases.classification().model
    model.optimizer.build(model.trainable_variables)
    model.layers[0].trainable = False
    return model


def mirrored():
    with tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]).scope():
        return linear()


@pytest.mark.parametrize(
    ("make", "signature", "error", "message"),
    [
        (lambda: 7, None, TypeError, "Received: int"),
        (lambda: keras.Sequential(), None, ValueError, "keras_fdr.FDRSGD"),
        (lambda: linear("adam"), None, ValueError, "optimizer=Adam"),
        (lambda: linear(FDRSGD(lambda: 0.1)), None, ValueError, "Python function"),
        (unbuilt, None, ValueError, "not known. Received: batch_signature=None"),
        (lambda: linear(loss=lambda a, b: a - b), None, ValueError, "labels .* loss="),
        (linear, X, TypeError, "`batch_signature` must be"),
        (linear, (spec(6),), TypeError, "`batch_signature` must be"),
        (linear, (spec(6), Y), TypeError, "`batch_signature` must be"),
        (linear, ([spec(3), spec(3)], spec(1)), ValueError, "1 arrays. Received: 2"),
        (linear, (spec(5), spec(1)), ValueError, "axis -1"),
        (frozen_afterwards, None, ValueError, "compiled after .* 4 .* optimizer of 6"),
        (mirrored, None, ValueError, "one device"),
    ],
)
def test_refused(tmp_path, make, signature, error, message):
    with pytest.raises(error, match=message):
        export_trainer(make(), tmp_path / "trainer", signature)
    assert not (tmp_path / "trainer").exists()
