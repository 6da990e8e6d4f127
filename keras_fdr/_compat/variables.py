"""Variables that are made while a function is traced, but not by it."""

import contextlib

import tensorflow as tf
from tensorflow.python.framework.ops import get_default_graph
from tensorflow.python.ops.variables import default_variable_creator_v2

# Above that of `tf.function`, below that of strategies, which make a copy a device.
_PRIORITY = 60


@contextlib.contextmanager
def variables_outside_of_traces():
    """A scope in which variables are made at once, whatever is being traced.

    `tf.init_scope` is not enough: `tf.function` still delays them, in a condition each
    (10 ms), and then traces the function a second time.
    """

    def create(next_creator, **arguments):
        del next_creator  # That of `tf.function`, or TensorFlow's own.
        return default_variable_creator_v2(None, **arguments)

    with (
        tf.init_scope(),
        get_default_graph()._variable_creator_scope(create, _PRIORITY),
    ):
        yield
