"""The weights and velocities of one moment, in the few numbers that a check needs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_fdr.products import checksum, dot


@dataclass(frozen=True)
class WeightsState:
    """What `StoredRecord.seal` remembers and `weights_unchanged` compares.

    Args:
        checksum: Integer, of all bits of weights and velocities.
        q: Float, Q of FDR1's identity, in the units of the rows.
        norm: Float, |θ| + |θ_c|.
        memory: Float, β (μ for `FDRSGD`).
        unit: Float, η₀ (1−ν), by which the rows were divided.
        epsilon: Float, the spacing of the weights' numbers at 1.
    """

    checksum: int
    q: float
    norm: float
    memory: float
    unit: float
    epsilon: float


def weights_state(
    theta: Sequence[tf.Tensor],
    velocity: Sequence[tf.Tensor],
    center: Sequence[tf.Tensor],
    memory: float,
    step: float,
    unit: float,
    remembered: float = 0.0,
) -> WeightsState:
    """The `WeightsState` now.

        Q = [½ (1−β) |θ−θ_c|² + β (θ−θ_c)·Δ(t−1)] / unit

    Args:
        theta: List of tensors, the weights.
        velocity: List of velocities, or an empty list.
        center: List of tensors, θ_c; empty for θ_c = 0.
        memory: Float, β.
        step: Float, η, with which Δ(t−1) is η v. It is 0 if there is no velocity.
        unit: Float, by which the rows were divided.
        remembered: Float, (θ−θ_c)·Δ(t−1) where it is known without the velocity.
    """
    numbers, bits = _numbers(list(theta), list(velocity), list(center))
    away_squared, away_v, theta_squared, center_squared = map(float, numbers.numpy())
    remembered += step * away_v
    q = (1 - memory) / 2 * away_squared + memory * remembered
    # θ_c is rounded to a type of its own.
    types = {t.dtype.as_numpy_dtype for t in (*theta, *center)}
    return WeightsState(
        checksum=int(bits),
        q=q / unit if unit else 0.0,
        norm=math.sqrt(theta_squared) + math.sqrt(center_squared),
        memory=memory,
        unit=unit,
        epsilon=max(float(np.finfo(kind).eps) for kind in types),
    )


# One call: at the end of an epoch each operation would be a launch of its own.
@tf.function(autograph=False)
def _numbers(theta: Any, velocity: Any, center: Any) -> Any:
    zero = tf.zeros((), "float64")
    theta_squared = dot(theta, theta)
    away, away_squared, center_squared = theta, theta_squared, zero
    if center:
        away = [w - tf.cast(c, w.dtype) for w, c in zip(theta, center, strict=True)]
        away_squared, center_squared = dot(away, away), dot(center, center)
    away_v = dot(away, velocity) if velocity else zero
    numbers = tf.stack([away_squared, away_v, theta_squared, center_squared])
    return numbers, checksum([*theta, *velocity])
