"""Variables that are created while a function is traced, but outside of it."""

import contextlib

import tensorflow as tf
from tensorflow.python.framework.ops import get_default_graph
from tensorflow.python.ops.variables import default_variable_creator_v2

# It is above that of `tf.function` and below that of strategies, which create a copy
# for each device.
_PRIORITY = 60


@contextlib.contextmanager
def variables_outside_of_traces():
    """A scope in which variables are created at once, also during a trace.

    `tf.init_scope` is not enough. `tf.function` still delays each variable by a
    condition (10 ms), and then traces the function a second time.
    """

    def create(next_creator, **arguments):
        del next_creator  # The creator of `tf.function`, or of TensorFlow.
        return default_variable_creator_v2(None, **arguments)

    with (
        tf.init_scope(),
        get_default_graph()._variable_creator_scope(create, _PRIORITY),
    ):
        yield
