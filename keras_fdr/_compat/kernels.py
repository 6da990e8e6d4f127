"""The kernels with which TensorFlow will run a graph."""

import tensorflow as tf
from tensorflow.python.framework.ops import get_default_graph
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
from tensorflow.python.util import _pywrap_util_port


def cpu_kernels():
    """The library that multiplies matrices on a CPU: `"xla"`, `"onednn"` or `None`.

    `None` stands for any other. It is also the answer if there is an accelerator,
    because the device of a graph is not known while it is traced.
    """
    if any(d.device_type != "CPU" for d in tf.config.list_physical_devices()):
        return None
    if xla_compiles():
        return "xla"
    return "onednn" if _pywrap_util_port.IsMklEnabled() else None


def xla_compiles():
    """Whether the graph that is being traced is for XLA."""
    return GraphOrParentsInXlaContext(get_default_graph())
