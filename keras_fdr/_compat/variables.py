"""Variables that are created while a function is traced, but outside of it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.ops import get_default_graph
from tensorflow.python.ops.variables import default_variable_creator_v2

# It is above that of `tf.function` and below that of strategies, which create a copy
# for each device.
_PRIORITY = 60


@contextlib.contextmanager
def variables_outside_of_traces() -> Iterator[None]:
    """A scope in which variables are created at once, also during a trace.

    `tf.init_scope` is not enough. `tf.function` still delays each variable by a
    condition (10 ms), and then traces the function a second time.
    """

    def create(next_creator: Any, **arguments: Any) -> tf.Variable:
        del next_creator  # The creator of `tf.function`, or of TensorFlow.
        return default_variable_creator_v2(None, **arguments)

    with (
        tf.init_scope(),
        get_default_graph()._variable_creator_scope(create, _PRIORITY),
    ):
        yield


class OptionalInCheckpoints:
    """Mixin of a layer that a `tf.train.Checkpoint` of older code lacks.

    While the layer is empty, it is left out of the objects that a checkpoint saves and
    that `assert_existing_objects_matched` expects. What a checkpoint has is restored.
    """

    def is_empty(self) -> bool:
        """Whether there is nothing to save."""
        raise NotImplementedError

    def _trackable_children(
        self, save_type: str = "checkpoint", **kwargs: Any
    ) -> dict[str, Any]:
        if save_type == "checkpoint" and self.is_empty():
            return {}
        return super()._trackable_children(save_type, **kwargs)  # type: ignore[misc]

    def _lookup_dependency(self, name: str, *args: Any, **kwargs: Any) -> Any:
        # What is restored is looked for by its name, also while it is left out.
        found = super()._lookup_dependency(name, *args, **kwargs)  # type: ignore[misc]
        if found is None and name == "entries":
            return getattr(self, name, None)
        return found
