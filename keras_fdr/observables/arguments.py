"""What the layers that measure take and refuse."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_fdr.arguments import check_number


def check_settings(capacity: Any, center: Any, per_variable: Any) -> None:
    """Checks the arguments of a record's constructor.

    Raises:
        ValueError: If one is out of range.
    """
    if not isinstance(capacity, int) or capacity < 2 or capacity % 2:
        raise ValueError(
            "`capacity` must be an even integer, at least 2. "
            f"Received: capacity={capacity}"
        )
    if not (center is None or (isinstance(center, str) and center == "initial")):
        raise ValueError(
            f'`center` must be None or "initial". Received: center={center!r}'
        )
    if not isinstance(per_variable, bool):
        raise ValueError(
            "`per_variable` must be True or False. "
            f"Received: per_variable={per_variable!r}"
        )


def check_call(
    theta: Sequence[tf.Tensor],
    gradient: Sequence[tf.Tensor | tf.IndexedSlices | None],
    velocity: Sequence[tf.Tensor],
    momentum: Any,
    dampening: Any,
) -> None:
    """Refuses lists that do not belong together, while the step is traced.

    Raises:
        ValueError: If they do not, or μ or ν is not in [0, 1).
    """
    for name, value in (("momentum", momentum), ("dampening", dampening)):
        if not tf.is_tensor(value):
            check_number(name, value, 0, 1, low_allowed=True)
    lists = {"gradient": gradient}
    if velocity:
        lists["velocity"] = velocity
    elif not tf.is_tensor(momentum) and momentum:
        raise ValueError(
            "`velocity` must have one velocity for each weight tensor where `momentum` "
            f"is above 0. Received: no velocity, momentum={momentum}"
        )
    shapes = [tuple(w.shape) for w in theta]
    for name, tensors in lists.items():
        theirs = [_shape(tensor) for tensor in tensors]
        fits = len(theirs) == len(shapes) and all(
            b is None or tf.TensorShape(a).is_compatible_with(b)
            for a, b in zip(shapes, theirs, strict=True)
        )
        if not fits:
            raise ValueError(
                f"`{name}` must have one entry for each weight tensor of `theta`, of "
                f"the same shape. Received: shapes {theirs} for weights of the shapes "
                f"{shapes}"
            )


def _shape(tensor: tf.Tensor | tf.IndexedSlices | None) -> tuple | None:
    """The shape of a gradient or velocity, with `None` where it is not known."""
    if isinstance(tensor, tf.IndexedSlices):
        return (None, *tensor.values.shape[1:])
    return None if tensor is None else tuple(tensor.shape)
