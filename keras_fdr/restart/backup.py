"""Backups of `BackupAndRestore` that a kill left half written."""

import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import keras

from keras_fdr import _compat
from keras_fdr.files import write_atomically
from keras_fdr.notices import notice


class _Point(NamedTuple):
    """Where a run goes on."""

    epoch: int
    iterations: int
    ended: bool


def mend(backup: keras.callbacks.BackupAndRestore, epochs: int | None) -> None:
    """Makes the files of a backup agree, before Keras reads them.

    Keras writes the weights to one file and then the epoch to another. A run that is
    killed between the two goes on with the new weights in the old epoch, which so is
    run twice; one that is killed while the second is empty, or in the first backup of
    all, fails to restart; and one that is killed while a finished run's backup is
    deleted may take new weights for trained ones. The weights' file also holds the
    optimizer's `Progress`, so the epoch can be had from there.

    Args:
        backup: A `keras.callbacks.BackupAndRestore`.
        epochs: Integer, the epochs that `fit` was asked for, or `None`.
    """
    files = _compat.backup_files(backup)
    weights, metadata, previous, _ = map(Path, files)
    if not weights.parent.is_dir():
        return
    point = _point_in(weights)
    if point is None and _point_in(previous) is not None:
        # Keras does so as well, unless the newest file is missing.
        with open(previous, "rb") as source:
            write_atomically(weights, lambda file: shutil.copyfileobj(source, file))
        point = _point_in(weights)
    if point is not None:
        epoch = point.epoch
        if point.ended and epochs and epoch < epochs:
            epoch = epochs
            notice(
                "`FDRCallback` has stopped this run after epoch "
                f"{point.epoch}, so none of its {epochs} epochs is left."
            )
        if _epoch_in(metadata) != epoch:
            text = json.dumps({"epoch": epoch, "batch": 0})
            write_atomically(metadata, lambda file: file.write(text.encode()))
    elif not weights.exists() and metadata.exists():
        metadata.unlink()
        notice(_new_start(backup, "was being deleted"))
    elif not metadata.exists() and _is_broken(weights):
        weights.unlink()
        notice(_new_start(backup, "was being written for the first time"))


def _point_in(path: Path) -> _Point | None:
    """Where a file of weights goes on; `None` if it does not say, or is broken."""
    found: list[_Point] = []

    def visit(name: str, group: h5py.Group) -> None:
        if name.endswith("progress/vars"):
            optimizer = name.removesuffix("progress/vars")
            point = _Point(*(group[str(i)][()].item() for i in range(3)))
            # Else saved within an epoch, or after epochs without `FDRCallback`.
            if point.iterations == file[f"{optimizer}vars/0"][()]:
                found.append(point)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except (OSError, KeyError, RuntimeError):
        return None
    return found[0] if found else None


def _is_broken(path: Path) -> bool:
    try:
        h5py.File(path, "r").close()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _epoch_in(metadata: Path) -> Any:
    try:
        return json.loads(metadata.read_text())["epoch"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _new_start(backup: keras.callbacks.BackupAndRestore, when: str) -> str:
    return (
        f"The run was killed when its backup in {os.fspath(backup.backup_dir)!r} "
        f"{when}, and no other is left: training starts at the first epoch."
    )
