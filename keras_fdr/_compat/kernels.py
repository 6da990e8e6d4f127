"""The kernels with which TensorFlow will run a graph."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.ops import get_default_graph
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
from tensorflow.python.util import _pywrap_util_port


def cpu_kernels() -> str | None:
    """The library that multiplies matrices on a CPU: `"xla"`, `"onednn"` or `None`.

    `None` stands for any other. It is also the answer if there is an accelerator,
    because the device of a graph is not known while it is traced.
    """
    if has_accelerator():
        return None
    if xla_compiles():
        return "xla"
    return "onednn" if _pywrap_util_port.IsMklEnabled() else None


def xla_compiles() -> bool:
    """Whether the graph that is being traced is for XLA."""
    return GraphOrParentsInXlaContext(get_default_graph())


def has_accelerator() -> bool:
    """Whether there is any device other than CPUs."""
    return any(d.device_type != "CPU" for d in tf.config.list_physical_devices())


def in_one_launch(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, as one program where each operation would be a launch.

    On an accelerator a step without XLA launches every operation separately. The many
    small ones of a record then take as long as the network itself. So XLA compiles
    this function alone.

    Args:
        function: A function of tensors, to be called while a step is traced.
    """
    if xla_compiles() or not has_accelerator():
        return function
    return tf.function(function, autograph=False, jit_compile=True)
