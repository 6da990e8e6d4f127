"""How TensorFlow traces what it writes as a SavedModel."""

from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf
from tensorflow.python.saved_model.save_context import save_context


def traced_for_saving() -> AbstractContextManager[Any]:
    """A context whose traces are the ones that `tf.saved_model.save` writes.

    That function uses no trace from outside of this context. It traces again.
    """
    return save_context(tf.saved_model.SaveOptions())
