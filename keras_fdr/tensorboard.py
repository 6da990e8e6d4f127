"""Step-resolution series and pictures of FDR1 in TensorBoard."""

import io
import os
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_fdr import _compat, plots
from keras_fdr.arguments import check_path
from keras_fdr.callback.fdr_callback import FDRCallback
from keras_fdr.measure import Measured, measured_optimizer
from keras_fdr.notices import notice
from keras_fdr.plots.figures import check_matplotlib
from keras_fdr.record import Record


class _Segment(NamedTuple):
    """A record at the end of an epoch, and where it is in the run."""

    record: Record
    last_step: int
    has_noise_loss: bool

    @property
    def first_step(self) -> int:
        """The steps of the run before the record began."""
        return self.last_step - self.record.steps


class FDRTensorBoard(keras.callbacks.Callback):
    """Writes what `FDRCallback` measured at every step for TensorBoard.

    `keras.callbacks.TensorBoard` shows the columns of the logs, one value an epoch.
    This callback adds series with one value for each block of the record, which is a
    single step up to 1024 steps after a cut: `fdr/ratio`, `fdr/dissipation` (Ō_L),
    `fdr/fluctuation` (Ō_R), and for SGD `fdr/noise_loss` (Ō_R/2). Their step is the
    number of steps that the optimizer has taken. The picture `fdr/equilibration` is
    that of `plots.equilibration`.

    It writes when a record ends, hence at each cut, and when training ends. Steps that
    are in the event files already are not written again, so that a run that is resumed
    continues its series.

    Example:

    >>> import keras, numpy as np, tempfile
    >>> from keras_fdr import FDRSGD, FDRCallback, FDRTensorBoard
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer=FDRSGD(learning_rate=0.05, l2=0.01), loss="mse")
    >>> x, y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
    >>> board = FDRTensorBoard(tempfile.mkdtemp())
    >>> history = model.fit(x, y, verbose=0, callbacks=[FDRCallback(), board])

    Args:
        log_dir: The folder that TensorBoard is started with. It can be that of
            `keras.callbacks.TensorBoard`. The files are in its subfolder `fdr`, which
            is the name of the run in TensorBoard.

    Raises:
        TypeError: If `log_dir` is neither a string nor a path object.
        ValueError: When training begins, if no `FDRCallback` is listed before it.
        ImportError: If matplotlib is not installed.
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        super().__init__()
        check_matplotlib()
        self.log_dir = os.fspath(check_path("log_dir", log_dir))
        self._open: _Segment | None = None
        self._is_new = True

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Finds the `FDRCallback`, and what the event files have already."""
        del logs
        self._source = self._find_source()
        folder = os.path.join(self.log_dir, "fdr")
        self._written = _newest_step(folder)
        self._writer = tf.summary.create_file_writer(folder)
        self._open, self._is_new = None, True

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notices event files of another run."""
        # `BackupAndRestore` restores the steps after our `on_train_begin`.
        del epoch, logs
        begun_at = int(self._measured().iterations.numpy())
        if self._is_new and begun_at < self._written:
            notice(
                f"The event files in {self.log_dir!r} already have steps up to "
                f"{self._written:,}, and training begins at step {begun_at:,}. Steps "
                "that are there are not written again. If this is another run, give "
                "it a `log_dir` of its own."
            )
        self._is_new = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes a record that has ended."""
        del epoch
        measured, record = self._measured(), self._source.record
        assert record is not None, "`FDRCallback` sets it before"
        last_step = int(measured.iterations.numpy())
        newest = _Segment(record, last_step, "fdr_noise_loss" in (logs or {}))
        if self._open is not None and self._open.first_step != newest.first_step:
            # The record restarted within the epoch.
            self._write(self._open)
        self._open = newest
        if measured.observables.record().steps == 0:  # A cut restarts the record.
            self._write(newest)
            self._open = None

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Writes the record that has not ended, and closes the file."""
        del logs
        if self._open is not None:
            self._write(self._open)
        self._open = None
        self._writer.close()

    def _measured(self) -> Measured:
        return measured_optimizer(self.model, self._source.optimizer)

    def _find_source(self) -> FDRCallback:
        listed = _compat.fit_call(self, self.model).callbacks
        earlier = listed[: listed.index(self)] if listed else []
        for callback in earlier:
            if isinstance(callback, FDRCallback):
                return callback
        names = [type(callback).__name__ for callback in listed]
        raise ValueError(
            "`FDRTensorBoard` must be listed after `FDRCallback`, which measures. "
            f"Received: callbacks=[{', '.join(names)}]"
        )

    def _write(self, segment: _Segment) -> None:
        """Writes the blocks that are not in the event files yet."""
        record = segment.record
        if segment.last_step <= self._written or record.steps == 0:
            return
        steps, values = _series(segment)
        new = steps > self._written
        with self._writer.as_default():
            for name, column in values.items():
                for step, value in zip(steps[new], column[new], strict=True):
                    tf.summary.scalar(f"fdr/{name}", value, step=step)
            picture = _picture(record)
            tf.summary.image("fdr/equilibration", picture, step=segment.last_step)
        self._writer.flush()
        self._written = segment.last_step


def _series(segment: _Segment) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The steps of the run at the ends of blocks, and the averages there."""
    steps, left = segment.record.series("dissipation")
    right = segment.record.series("fluctuation")[1]
    ratio = np.full_like(left, np.nan)
    np.divide(left, right, out=ratio, where=right != 0)
    values = {"ratio": ratio, "dissipation": left, "fluctuation": right}
    if segment.has_noise_loss:
        values["noise_loss"] = right / 2
    return segment.first_step + steps, values


def _picture(record: Record) -> tf.Tensor:
    """The equilibration picture as a batch of one image."""
    figure, _ = plots.equilibration(record)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return tf.image.decode_png(file.getvalue(), channels=3)[None]


def _newest_step(folder: str) -> int:
    """The newest step in the event files of a folder; -1 if there is none."""
    newest = -1
    for path in tf.io.gfile.glob(os.path.join(folder, "events.out.tfevents.*")):
        # A kill can leave the last event incomplete.
        events = tf.data.TFRecordDataset(path).ignore_errors()
        for batch in events.batch(1024):
            for content in batch.numpy():
                event = tf.compat.v1.Event.FromString(content)
                if event.HasField("summary"):
                    newest = max(newest, event.step)
    return newest
