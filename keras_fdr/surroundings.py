"""What stands beside `FDRCallback` in `fit`, and what a restart makes of it."""

import warnings

import keras
import tensorflow as tf
from keras.callbacks import BackupAndRestore, CSVLogger, ModelCheckpoint

from keras_fdr import _compat
from keras_fdr.backup import mend
from keras_fdr.workers import unwrapped

_SAVERS = (BackupAndRestore, ModelCheckpoint)
_LOGGERS = (CSVLogger, keras.callbacks.TensorBoard, keras.callbacks.RemoteMonitor)


def prepare_restart(callback):
    """Checks the order of the callbacks and mends a backup that a kill left broken.

    To be called when training begins, from `FDRCallback`, before Keras restores.

    Args:
        callback: The `FDRCallback`.

    Returns:
        String, what keeps a killed run from going on bitwise and what to change;
        `None` if nothing is seen, or nothing is saved.

    Raises:
        ValueError: If a callback that saves the model stands before it.
    """
    callbacks, arguments = _compat.surroundings(callback, callback.model)
    if not callbacks:
        return None
    listed = [unwrapped(c) for c in callbacks]
    _check_order(listed[: listed.index(callback)], callback)
    for backup in callbacks:
        # What acts on the chief only mends its backup there.
        if isinstance(backup, BackupAndRestore):
            mend(backup, callback.params.get("epochs"))
    notes = list(_notes_on_savers(listed))
    for backup in listed:
        if isinstance(backup, BackupAndRestore):
            notes.extend(_notes_on_backup(backup, listed))
            notes.extend(_notes_on_data(arguments, callback.model))
    if not notes:
        return None
    all_notes = "; ".join(f"({i}) {note}" for i, note in enumerate(notes, start=1))
    return (
        f"Killed and restarted, this run will not go on exactly as before: {all_notes}."
    )


def _check_order(earlier, callback):
    savers = [_name(c) for c in earlier if isinstance(c, _SAVERS)]
    if savers:
        raise ValueError(
            f"`{_name(callback)}` must be listed before the callbacks that save the "
            "model: else what they save at the end of an epoch lacks its cut. "
            f"Received: callbacks=[{', '.join([*savers, _name(callback)])}]"
        )
    loggers = [_name(c) for c in earlier if isinstance(c, _LOGGERS)]
    if loggers:
        warnings.warn(
            f"{', '.join(loggers)} will not see the columns of `{_name(callback)}`: "
            f"list `{_name(callback)}` before.",
            stacklevel=4,
        )


def _notes_on_savers(callbacks):
    for saver in callbacks:
        if isinstance(saver, _SAVERS) and saver.save_freq != "epoch":
            yield (
                "after a save within an epoch Keras begins the epoch again, and its "
                f'first batches count twice: pass `{_name(saver)}(save_freq="epoch")`'
            )
        path = str(getattr(saver, "filepath", ""))
        if path.endswith(".h5") and not path.endswith(".weights.h5"):
            yield (
                "a file of this old format lacks the record and the cuts: let "
                f"`{_name(saver)}` write a `.keras` or `.weights.h5` file"
            )


def _notes_on_backup(backup, callbacks):
    if not backup.double_checkpoint:
        yield (
            "a kill while the backup is written breaks the only one: pass "
            "`BackupAndRestore(double_checkpoint=True)`"
        )
    late = callbacks[callbacks.index(backup) :]
    loggers = [_name(c) for c in late if isinstance(c, _LOGGERS)]
    if loggers:
        yield (
            "a kill after the backup loses the epoch's line in the log: list "
            f"{', '.join(loggers)} before BackupAndRestore"
        )
    if any(isinstance(c, CSVLogger) and not c.append for c in callbacks):
        yield "CSVLogger begins an empty file: pass `CSVLogger(append=True)`"


def _notes_on_data(arguments, model):
    data = arguments.get("x")
    if arguments.get("shuffle") and not isinstance(data, tf.data.Dataset):
        yield (
            "`fit(shuffle=True)` shuffles in another order: pass `shuffle=False`, or a "
            "dataset whose order is a function of the epoch"
        )
    if arguments.get("steps_per_epoch"):
        yield (
            "with `steps_per_epoch` an epoch begins where the one before stopped, and "
            "after a restart at the beginning of the data: leave it out"
        )
    if _compat.has_seeds(model):
        yield (
            "Keras does not save the seeds of layers such as dropout, which draw other "
            "random numbers"
        )


def _name(callback):
    return type(callback).__name__
