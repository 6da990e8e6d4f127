"""Warnings that point at the line of the user."""

import inspect
import os
import warnings
from dataclasses import dataclass, field
from importlib.util import find_spec

import keras


def _folder(module: str) -> str:
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None, module
    return os.path.join(os.path.dirname(spec.origin), "")


_LIBRARIES = (
    _folder("keras_fdr"),
    os.path.join(os.path.dirname(keras.__file__), ""),
    _folder("tensorflow"),
)


def notice(message: str) -> None:
    """Warns, and names the line outside of Keras and this package that led here.

    Keras calls callbacks and optimizers from deep inside `fit`. A fixed `stacklevel`
    would point at a line of Keras. Python would then show the warning once for all
    calls of `fit`, instead of once for each.

    Args:
        message: String: what was found, why it matters and what to do.
    """
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_code.co_filename.startswith(_LIBRARIES):
        frame, level = frame.f_back, level + 1
    # Level 1 is the frame of this function.
    warnings.warn(message, stacklevel=level)


@dataclass
class Notices:
    """Gives each notice on a subject once.

    Args:
        subjects: Those that there was a notice on.
    """

    subjects: set[str] = field(default_factory=set)

    def once(self, subject: str, message: str | None) -> None:
        """Gives a notice, if there was none on this subject before.

        Args:
            subject: String, a name for what the message is about.
            message: String; `None` gives nothing.
        """
        if message and subject not in self.subjects:
            self.subjects.add(subject)
            notice(message)
