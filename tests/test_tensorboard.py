"""The event files have the numbers of the record, each step once."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_plot_sources import cuts_after

from keras_fdr import FDRSGD, FDRCallback, FDRObservables, FDRTensorBoard

X = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
STEPS = 4  # In an epoch.


def compiled(optimizer=None, capacity=1024):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    observables = FDRObservables(capacity=capacity)
    model.compile(optimizer or FDRSGD(0.1, l2=0.1, observables=observables), "mse")
    return model


def fit(model, callback, board, **arguments):
    arguments = {"epochs": 4, "batch_size": 32 // STEPS, **arguments}
    callbacks = [callback, *arguments.pop("between", ()), board]
    model.fit(X, X[:, 0], verbose=0, callbacks=callbacks, **arguments)


def read(path):
    """Dictionary from tag to steps and values, and the steps of the pictures."""
    events = EventAccumulator(str(path / "fdr"), size_guidance={"tensors": 0})
    events.Reload()
    series, pictures = {}, []
    for tag in events.Tags()["tensors"]:
        # Files of the same second are read in the order of their names, not of time.
        found = sorted(events.Tensors(tag), key=lambda event: event.step)
        if tag == "fdr/equilibration":
            pictures = [(e.step, tf.make_ndarray(e.tensor_proto)) for e in found]
        else:
            values = [float(tf.make_ndarray(e.tensor_proto)) for e in found]
            series[tag] = ([e.step for e in found], values)
    return series, pictures


class Records(keras.callbacks.Callback):
    """Keeps the record of each epoch, independently of the writer."""

    def __init__(self, source):
        super().__init__()
        self.source, self.kept = source, []

    def on_epoch_end(self, epoch, logs=None):
        self.kept.append(self.source.record)


def expected(*segments):
    """The series of records that begin after the given steps."""
    steps, left, right = [], [], []
    for begin, record in segments:
        ends, values = record.series("dissipation")
        steps.extend((begin + ends).tolist())
        left.extend(values)
        right.extend(record.series("fluctuation")[1])
    left, right = np.array(left), np.array(right)
    values = {"ratio": left / right, "dissipation": left, "fluctuation": right}
    return steps, {**values, "noise_loss": right / 2}


def check(path, *segments, pictures, tags=4):
    series, drawn = read(path)
    steps, values = expected(*segments)
    assert len(series) == tags
    for tag, (found, numbers) in series.items():
        assert found == steps
        np.testing.assert_allclose(numbers, values[tag.split("/")[1]], rtol=1e-6)
    assert [step for step, _ in drawn] == pictures
    for _, (width, height, *images) in drawn:
        assert int(width) > 300 and int(height) > 300
        assert len(images) == 1 and images[0].startswith(b"\x89PNG")


def test_series_and_pictures(tmp_path):
    """A cut after epoch 3 of 4, and 2 blocks of 4 steps each at its end."""
    callback = FDRCallback(rule=cuts_after(3), factor=0.5)
    records = Records(callback)
    model = compiled(capacity=4)
    fit(model, callback, FDRTensorBoard(tmp_path), between=[records])
    assert [record.block_length for record in records.kept] == [1, 2, 4, 1]
    segments = (0, records.kept[2]), (3 * STEPS, records.kept[3])
    check(tmp_path, *segments, pictures=[3 * STEPS, 4 * STEPS])


def test_cut_at_the_end_is_written_once(tmp_path):
    callback = FDRCallback(rule=cuts_after(4))
    fit(compiled(), callback, FDRTensorBoard(tmp_path))
    check(tmp_path, (0, callback.record), pictures=[4 * STEPS])


def test_fit_again(tmp_path):
    """With the same callback and with a new one, as after a restart."""
    model = compiled()
    callback, board = FDRCallback(factor=None), FDRTensorBoard(tmp_path)
    for epochs, writer in ((1, board), (2, board), (1, FDRTensorBoard(tmp_path))):
        fit(model, callback, writer, epochs=epochs)
    check(tmp_path, (0, callback.record), pictures=[4, 12, 16])


class KilledError(Exception):
    pass


def test_resume_after_a_kill(tmp_path):
    """The kill comes after the cut was written and before the backup of its epoch."""

    class Kill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                raise KilledError

    def run(rule, *kill):
        keras.utils.set_random_seed(0)
        backup = keras.callbacks.BackupAndRestore(
            tmp_path / "backup", double_checkpoint=True
        )
        callback = FDRCallback(rule=rule)
        model, records = compiled(), Records(callback)
        callbacks = [callback, records, FDRTensorBoard(tmp_path), *kill, backup]
        model.fit(
            X,
            X[:, 0],
            batch_size=8,
            epochs=5,
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
        )
        return records.kept

    with pytest.raises(KilledError):
        run(cuts_after(3), Kill())
    with pytest.warns(UserWarning, match="steps up to 12, and training begins at .* 8"):
        records = run(cuts_after(1))
    assert [record.steps for record in records] == [12, 4, 8]
    check(tmp_path, (0, records[0]), (12, records[2]), pictures=[12, 20])


def test_incomplete_last_event(tmp_path):
    model, callback = compiled(), FDRCallback(factor=None)
    fit(model, callback, FDRTensorBoard(tmp_path), epochs=1)
    [path] = (tmp_path / "fdr").iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    fit(model, callback, FDRTensorBoard(tmp_path), epochs=1)
    series, pictures = read(tmp_path)
    assert series["fdr/ratio"][0] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [step for step, _ in pictures] == [8]


def test_other_optimizer(tmp_path):
    """An Adam with accumulated gradients has half as many steps and no noise loss."""
    adam = keras.optimizers.Adam(0.01, gradient_accumulation_steps=2, weight_decay=0.1)
    callback = FDRCallback()
    fit(compiled(adam), callback, FDRTensorBoard(tmp_path))
    assert callback.record.steps == 2 * STEPS
    check(tmp_path, (0, callback.record), pictures=[2 * STEPS], tags=3)


def test_accumulated_gradients(tmp_path):
    callback = FDRCallback()
    model = compiled(FDRSGD(0.1, l2=0.1, gradient_accumulation_steps=2))
    fit(model, callback, FDRTensorBoard(tmp_path))
    assert callback.record.steps == 2 * STEPS
    check(tmp_path, (0, callback.record), pictures=[2 * STEPS])


def test_record_that_others_restart(tmp_path):
    class Move(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                self.model.set_weights([w + 1 for w in self.model.get_weights()])

    callback = FDRCallback(factor=None)
    records = Records(callback)
    with pytest.warns(UserWarning, match="restarts at t = 0"):
        fit(
            compiled(),
            callback,
            FDRTensorBoard(tmp_path),
            between=[records, Move()],
        )
    # The rows of the third epoch are worth nothing.
    assert [record.steps for record in records.kept] == [4, 8, 0, 4]
    segments = (0, records.kept[1]), (3 * STEPS, records.kept[3])
    check(tmp_path, *segments, pictures=[2 * STEPS, 4 * STEPS])


def test_refusals(tmp_path):
    board = FDRTensorBoard(tmp_path)
    for callbacks in ([board, FDRCallback()], [board]):
        with pytest.raises(ValueError, match=r"after `FDRCallback`.*\[.*FDRTensorBo"):
            compiled().fit(X, X[:, 0], verbose=0, callbacks=callbacks)
    with pytest.raises(TypeError, match="`log_dir`"):
        FDRTensorBoard(3)
    assert not (tmp_path / "fdr").exists()
