"""The full-batch columns of `FDRCallback`, against a tape over one big batch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_fdr import FDRSGD, FDRCallback, FDRObservables, FullBatchPass, Record

L2 = 0.02


def small_model(**optimizer):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(12, activation="tanh"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    arguments = {"learning_rate": 0.05, "l2": L2, **optimizer}
    model.compile(
        FDRSGD(**arguments), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


class Reference(keras.callbacks.Callback):
    """What a user would write by hand, before the callback touches anything."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y
        self.loss, self.norm_squared, self.velocity_gradient = [], [], []
        self.accuracy = []

    def on_epoch_end(self, epoch, logs=None):
        weights = [tf.Variable(w) for w in self.model.get_weights()]
        w1, b1, w2, b2 = weights
        with tf.GradientTape() as tape:
            p = tf.nn.softmax(tf.tanh(self.x @ w1 + b1) @ w2 + b2)
            right = tf.gather(p, self.y, batch_dims=1)
            l2 = sum(tf.reduce_sum(w**2) for w in weights)
            loss = -tf.reduce_mean(tf.math.log(right)) + L2 / 2 * l2
        gradient = [g.numpy().ravel() for g in tape.gradient(loss, weights)]
        velocities = self.model.optimizer.velocities
        v = [v.numpy().ravel() for v in velocities] or [0 * g for g in gradient]
        g, v = np.concatenate(gradient), np.concatenate(v)
        self.loss.append(float(loss))
        self.norm_squared.append(float(g @ g))
        self.velocity_gradient.append(float(v @ g))
        self.accuracy.append(np.mean(np.argmax(p, 1) == self.y))


def train(model, digits, callbacks, epochs=6):
    keras.utils.set_random_seed(2)
    return model.fit(
        *digits, batch_size=30, epochs=epochs, verbose=0, callbacks=callbacks
    ).history


@pytest.mark.parametrize("mu, nu", [(0.0, 0.0), (0.9, 0.0), (0.8, 0.3)])
def test_columns_are_those_of_one_big_batch(digits, mu, nu):
    model = small_model(momentum=mu, dampening=nu)
    reference = Reference(*digits)
    callback = FDRCallback(factor=None, full_batch=digits)
    logs = train(model, digits, [reference, callback])
    norm_squared = np.array(reference.norm_squared)
    o_fb = (1 - nu) * norm_squared - mu * np.array(reference.velocity_gradient)
    # Eq. (15) over the passes: t0 = ⌊t/2⌋.
    half_running = [o_fb[t // 2 : t].mean() for t in range(1, 7)]
    scale = norm_squared.max()
    assert logs["full_batch_loss"] == pytest.approx(reference.loss, rel=1e-5)
    assert logs["full_batch_gradient_norm"] == pytest.approx(
        np.sqrt(norm_squared), rel=1e-4
    )
    assert logs["full_batch_dissipation"] == pytest.approx(
        half_running, rel=1e-4, abs=1e-5 * scale
    )
    assert logs["full_batch_accuracy"] == pytest.approx(reference.accuracy)


def test_epochs_between_passes_have_nan_in_every_column(digits, tmp_path):
    """From the first epoch on, which is where CSVLogger takes its columns from."""
    path = tmp_path / "log.csv"
    callbacks = [
        FDRCallback(full_batch=digits, full_batch_every=3),
        keras.callbacks.CSVLogger(path),
    ]
    logs = train(small_model(), digits, callbacks, epochs=7)
    columns = {name: v for name, v in logs.items() if name.startswith("full_batch_")}
    suffixes = {"loss", "gradient_norm", "dissipation", "accuracy"}
    assert set(columns) == {f"full_batch_{suffix}" for suffix in suffixes}
    for values in columns.values():
        finite = [epoch for epoch, v in enumerate(values, 1) if np.isfinite(v)]
        assert finite == [3, 6]
    header = path.read_text().splitlines()[0].split(",")
    assert set(columns) <= set(header)


def test_training_is_bitwise_the_same_with_passes(digits):
    runs = []
    for arguments in ({}, {"full_batch": digits}):
        model = small_model(momentum=0.9)
        logs = train(model, digits, [FDRCallback(threshold=0.5, **arguments)])
        runs.append((model.get_weights(), logs["loss"], logs["fdr_ratio"]))
    (weights, *columns), (other_weights, *other_columns) = runs
    assert columns == other_columns
    for one, other in zip(weights, other_weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_cut_restarts_the_record_of_passes(digits):
    model = small_model(learning_rate=0.1)
    callback = FDRCallback(
        rule=lambda record: _verdict(record, stationary=record.steps >= 14),
        full_batch=digits,
    )
    logs = train(model, digits, [callback], epochs=4)
    assert [cut.epoch for cut in callback.cuts] == [2, 4]
    assert model.optimizer.observables.full_batch_record().steps == 0
    # The first pass after a cut is an average of its own.
    third = logs["full_batch_gradient_norm"][2] ** 2
    assert logs["full_batch_dissipation"][2] == pytest.approx(third, rel=1e-6)


def _verdict(record, stationary):
    from keras_fdr import Verdict

    status = "stationary" if stationary else "drifting"
    return Verdict(status, record.ratio, record.steps, "as the test says")


def test_passes_share_the_mechanism_of_the_steps(digits):
    """Fixed size, merged by pairs, restarted by another learning rate."""
    model = small_model(observables=FDRObservables(capacity=4))
    callback = FDRCallback(factor=None, full_batch=digits)
    logs = train(model, digits, [callback], epochs=11)
    record = model.optimizer.observables.full_batch_record()
    assert (record.steps, record.block_length, len(record.sums)) == (11, 4, 3)
    losses = record.sums[:, record.names.index("full_batch_loss")]
    assert losses.sum() == pytest.approx(sum(logs["full_batch_loss"]))
    model.optimizer.learning_rate = 0.01
    with pytest.warns(UserWarning, match="learning rate was changed") as _:
        train(
            model,
            digits,
            [FDRCallback(full_batch=digits), _ChangeLearningRate()],
            epochs=2,
        )
    assert model.optimizer.observables.full_batch_record().steps == 1


class _ChangeLearningRate(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.model.optimizer.learning_rate = 0.01 / (1 + epoch)


@pytest.mark.parametrize("kind", ["keras", "weights", "checkpoint"])
def test_checkpoints_carry_the_passes(digits, tmp_path, kind):
    model = small_model(momentum=0.9)
    train(model, digits, [FDRCallback(factor=None, full_batch=digits)])
    saved = model.optimizer.observables.full_batch_record()
    if kind == "keras":
        model.save(tmp_path / "model.keras")
        other = keras.saving.load_model(tmp_path / "model.keras")
    else:
        other = small_model(momentum=0.9)
        other.optimizer.build(other.trainable_variables)
        if kind == "weights":
            model.save_weights(tmp_path / "m.weights.h5")
            other.load_weights(tmp_path / "m.weights.h5")
        else:
            path = tf.train.Checkpoint(model, optimizer=model.optimizer).save(
                tmp_path / "checkpoint"
            )
            restored = tf.train.Checkpoint(other, optimizer=other.optimizer)
            restored.restore(path).assert_existing_objects_matched()
    found = other.optimizer.observables.full_batch_record()
    assert found.steps == saved.steps == 6
    np.testing.assert_array_equal(found.sums, saved.sums)


def test_record_file_keeps_the_names(digits, tmp_path):
    model = small_model()
    train(model, digits, [FDRCallback(full_batch=digits)], epochs=2)
    record = model.optimizer.observables.full_batch_record()
    record.save(tmp_path / "passes.npz")
    loaded = Record.load(tmp_path / "passes.npz")
    assert loaded.names == record.names
    assert loaded.half_running_average("full_batch_loss") > 0
    with pytest.raises(ValueError, match="must be one of full_batch_loss"):
        loaded.half_running_average("dissipation")


def test_one_pass_serves_many_fits_and_a_new_compile_gets_its_own(digits, monkeypatch):
    made = []

    def make(*args):
        made.append(FullBatchPass(*args))
        return made[-1]

    monkeypatch.setattr("keras_fdr.callback.full_batch_logs.FullBatchPass", make)
    model = small_model()
    callback = FDRCallback(factor=None, full_batch=digits)
    train(model, digits, [callback], epochs=1)
    train(model, digits, [callback], epochs=1)
    assert len(made) == 1
    weights = model.get_weights()
    model.compile(FDRSGD(learning_rate=1e-30), "sparse_categorical_crossentropy")
    with pytest.warns(UserWarning, match="no L2 term"):
        after = train(model, digits, [callback], epochs=1)
    assert len(made) == 2
    l2 = L2 / 2 * sum(np.sum(w**2) for w in weights)
    with_l2 = small_model()
    with_l2.set_weights(weights)
    f = train(with_l2, digits, [_PassOnly(digits)], epochs=1)["f"][0]
    assert after["full_batch_loss"][0] == pytest.approx(f - l2, rel=1e-5)


class _PassOnly(keras.callbacks.Callback):
    """f at the start of training, by the network's own evaluation."""

    def __init__(self, digits):
        super().__init__()
        self.digits = digits

    def on_train_begin(self, logs=None):
        p = self.model(self.digits[0]).numpy()
        weights = self.model.get_weights()
        right = p[np.arange(len(p)), self.digits[1]]
        self.f = -np.log(right).mean() + L2 / 2 * sum(np.sum(w**2) for w in weights)

    def on_epoch_end(self, epoch, logs=None):
        logs["f"] = self.f


@pytest.mark.parametrize("clipping", ["clipnorm", "clipvalue", "global_clipnorm"])
def test_says_that_clipping_breaks_fdr2(digits, clipping):
    model = small_model(**{clipping: 0.1})
    with pytest.warns(UserWarning, match="FDR2 needs"):
        train(model, digits, [FDRCallback(full_batch=digits)], epochs=1)


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"full_batch_every": 2}, ValueError, "needs a dataset"),
        ({"full_batch_every": 0}, ValueError, "at least 1"),
        ({"full_batch_every": 1.5}, TypeError, "integer"),
        ({"full_batch": np.ones((3, 2))}, TypeError, "finite `tf.data.Dataset`"),
        ({"full_batch": (np.ones((3, 2)),)}, ValueError, "1 parts"),
        ({"full_batch": (np.ones((3, 2)), np.ones(2))}, ValueError, r"\[3, 2\]"),
    ],
)
def test_refuses_bad_arguments_at_once(arguments, error, words):
    with pytest.raises(error, match=words):
        FDRCallback(**arguments)


def test_refuses_a_dataset_of_another_structure_before_training(digits):
    model = small_model()
    before = model.get_weights()
    x, y = digits
    with pytest.raises(ValueError, match="inputs of the model"):
        train(model, digits, [FDRCallback(full_batch=({"a": x, "b": x}, y))])
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
