"""Checks the other callbacks of `fit` and repairs an interrupted backup."""

import dis
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf
from keras.callbacks import (
    BackupAndRestore,
    CSVLogger,
    ModelCheckpoint,
    OrbaxCheckpoint,
    ReduceLROnPlateau,
    RemoteMonitor,
    TensorBoard,
)

from keras_fdr import _compat
from keras_fdr.notices import notice
from keras_fdr.restart.backup import repair_backup
from keras_fdr.restart.chief import unwrapped

_SAVERS = (BackupAndRestore, ModelCheckpoint, OrbaxCheckpoint)
_LOGGERS = (CSVLogger, TensorBoard, RemoteMonitor)
# These write the present learning rate of the optimizer into the logs.
_RATE_WRITERS = (TensorBoard, ReduceLROnPlateau)
_COLUMNS = ("fdr_", "full_batch_")


def check_neighbours(
    callback: keras.callbacks.Callback, kind: type[keras.callbacks.Callback]
) -> None:
    """Checks the order of the callbacks, and whether they save everything.

    `FDRCallback` calls this when training begins.

    Args:
        callback: The `FDRCallback`.
        kind: Its class.

    Raises:
        ValueError: If a callback that saves the model is listed before it, or if
            there are two callbacks of its class.
    """
    listed = _listed(callback)
    if not listed:
        return
    if sum(isinstance(c, kind) for c in listed) > 1:
        names = [_name(c) for c in listed if isinstance(c, kind)]
        raise ValueError(
            f"There must be only one `{kind.__name__}` in a `fit`: each would cut the "
            "learning rate and restart the record of the other. "
            f"Received: callbacks=[{', '.join(names)}]"
        )
    _check_order(listed[: listed.index(callback)], callback)
    if any(isinstance(c, OrbaxCheckpoint) and not c.save_weights_only for c in listed):
        notice(
            "OrbaxCheckpoint saves only the weights and the optimizer's own variables. "
            "It leaves out the record and the cuts, so a restored run continues the "
            "record that the model has at that moment. Use `ModelCheckpoint` "
            "with a `.keras` or `.weights.h5` file to save them as well."
        )


def rate_writers(callback: keras.callbacks.Callback) -> list[str]:
    """Names the later callbacks that overwrite `learning_rate` in the logs.

    Args:
        callback: The `FDRCallback`. Training must begin just now.
    """
    listed = _listed(callback)
    later = listed[listed.index(callback) :] if listed else []
    return [_name(c) for c in later if isinstance(c, _RATE_WRITERS)]


def _listed(callback: keras.callbacks.Callback) -> list[keras.callbacks.Callback]:
    callbacks, _ = _compat.fit_call(callback, callback.model)
    return [unwrapped(c) for c in callbacks]


def prepare_restart(callback: keras.callbacks.Callback) -> str | None:
    """Repairs a backup that a kill left broken, and finds what a restart would lose.

    `FDRCallback` calls this when training begins, before Keras restores.

    Args:
        callback: The `FDRCallback`.

    Returns:
        String: why a killed run would not resume exactly, and what to change. `None`
        if nothing was found, or no backup is made.
    """
    callbacks, arguments = _compat.fit_call(callback, callback.model)
    if not callbacks:
        return None
    listed = [unwrapped(c) for c in callbacks]
    for backup in callbacks:
        # A callback that acts only on the chief repairs its backup there.
        if isinstance(backup, BackupAndRestore):
            repair_backup(backup, callback.params.get("epochs"))
    notes = list(_notes_on_savers(listed))
    for backup in listed:
        if isinstance(backup, BackupAndRestore):
            notes.extend(_notes_on_backup(backup, listed))
            notes.extend(_notes_on_data(arguments, callback.model))
    if not notes:
        return None
    all_notes = "; ".join(f"({i}) {note}" for i, note in enumerate(notes, start=1))
    return f"If this run is killed, it cannot resume exactly where it was: {all_notes}."


def _check_order(
    earlier: list[keras.callbacks.Callback], callback: keras.callbacks.Callback
) -> None:
    savers = [_name(c) for c in earlier if isinstance(c, _SAVERS)]
    if savers:
        raise ValueError(
            f"`{_name(callback)}` must be listed before the callbacks that save the "
            "model. Otherwise the files of an epoch lack the cut at its end. "
            f"Received: callbacks=[{', '.join([*savers, _name(callback)])}]"
        )
    loggers = [_name(c) for c in earlier if _reads_columns(c)]
    if loggers:
        notice(
            f"{', '.join(loggers)} will not see the columns of `{_name(callback)}`, "
            "because it is listed earlier and is called before they are written. "
            f"List `{_name(callback)}` first."
        )


def _reads_columns(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback uses all logs, or our columns, at the end of an epoch.

    The loggers of Keras are known. Other callbacks of Keras look at one column. A
    user's own callback may log if its method uses the argument `logs` at all.
    """
    if isinstance(callback, _LOGGERS):
        return True
    if str(getattr(callback, "monitor", "")).startswith(_COLUMNS):
        return True
    method = callback.on_epoch_end
    function = getattr(method, "__func__", method)
    if (getattr(function, "__module__", None) or "").split(".")[0] == "keras":
        return False
    return _uses_argument(function, 2 if function is not method else 1)


def _uses_argument(function: Any, position: int) -> bool:
    code = getattr(function, "__code__", None)
    if code is None or code.co_argcount <= position:
        # This can be any callable, or a function with `*args`.
        return True
    name = code.co_varnames[position]
    return name in code.co_cellvars or any(
        "LOAD" in step.opname
        and name in (step.argval if isinstance(step.argval, tuple) else (step.argval,))
        for step in dis.get_instructions(code)
    )


def _notes_on_savers(callbacks: list[keras.callbacks.Callback]) -> Iterator[str]:
    for saver in callbacks:
        if isinstance(saver, BackupAndRestore) and saver.save_freq != "epoch":
            yield (
                "after a save in mid-epoch Keras begins the epoch again, so its first "
                f'batches count twice: pass `{_name(saver)}(save_freq="epoch")`'
            )
        path = str(getattr(saver, "filepath", ""))
        if path.endswith(".h5") and not path.endswith(".weights.h5"):
            yield (
                "files of this old format lack the record and the cuts: let "
                f"`{_name(saver)}` write a `.keras` or `.weights.h5` file"
            )


def _notes_on_backup(
    backup: keras.callbacks.BackupAndRestore, callbacks: list[keras.callbacks.Callback]
) -> Iterator[str]:
    if not backup.double_checkpoint:
        yield (
            "a kill during the backup breaks the only copy: pass "
            "`BackupAndRestore(double_checkpoint=True)`"
        )
    late = callbacks[callbacks.index(backup) :]
    loggers = [_name(c) for c in late if isinstance(c, _LOGGERS)]
    if loggers:
        yield (
            "a kill after the backup loses the line of this epoch in the log: list "
            f"{', '.join(loggers)} before BackupAndRestore"
        )
    if any(isinstance(c, CSVLogger) and not c.append for c in callbacks):
        yield "CSVLogger starts with an empty file: pass `CSVLogger(append=True)`"


def _notes_on_data(arguments: Mapping[str, Any], model: keras.Model) -> Iterator[str]:
    data = arguments.get("x")
    if arguments.get("shuffle") and not isinstance(data, tf.data.Dataset):
        yield (
            "`fit(shuffle=True)` shuffles in another order after a restart: pass "
            "`keras_fdr.shuffled_batches(x, y, batch_size, seed)` instead of the "
            "arrays, or `shuffle=False`"
        )
    if arguments.get("steps_per_epoch"):
        yield (
            "with `steps_per_epoch` an epoch begins where the last one stopped, but "
            "after a restart it begins at the start of the data: leave it out"
        )
    if _compat.has_seeds(model):
        yield (
            "Keras does not save the seeds of layers such as dropout, so they draw "
            "other random numbers after a restart"
        )


def _name(callback: keras.callbacks.Callback) -> str:
    return type(callback).__name__
