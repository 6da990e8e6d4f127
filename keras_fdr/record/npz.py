"""The NumPy file of a record."""

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from keras_fdr.files import write_atomically

T = TypeVar("T")


def write_record(path: str | os.PathLike[str], fields: Mapping[str, Any]) -> None:
    """Writes the fields of a record as a NumPy `.npz` file.

    A file of that name is replaced only when the new one is complete.

    Args:
        path: File name or path object.
        fields: Dictionary from the names of the fields to their values. A field that
            is `None` is left out.
    """
    arrays: dict[str, Any] = {
        name: np.asarray(value) for name, value in fields.items() if value is not None
    }
    write_atomically(path, lambda file: np.savez(file, **arrays))


def read_record(path: str | os.PathLike[str], make: Callable[..., T]) -> T:
    """Reads a file that `write_record` wrote.

    Args:
        path: File name or path object.
        make: Function of the fields, such as `Record`.

    Returns:
        What `make` returns.

    Raises:
        ValueError: If the file is not a complete record.
    """
    # `np.load` would leave a broken file open, so the file is opened here.
    with open(path, "rb") as stream:
        try:
            with np.load(stream) as file:
                return make(
                    sums=file["sums"],
                    steps=int(file["steps"]),
                    block_length=int(file["block_length"]),
                    learning_rate=float(file["learning_rate"]),
                    names=tuple(map(str, file["names"])),
                    learning_rates=file.get("learning_rates"),
                )
        # A flipped bit can cause any exception, such as one on a wrong password.
        except Exception as error:
            raise ValueError(
                "A record file must be a complete file that `Record.save` wrote. "
                f"Received: {path!r} ({error})"
            ) from error
