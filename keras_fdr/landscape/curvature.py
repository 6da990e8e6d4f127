"""The curvature that the gradient noise feels, by Hessian-vector products."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_fdr import _compat
from keras_fdr.batches import independent_batches
from keras_fdr.data import arrays_length, as_arrays, batch_spec
from keras_fdr.full_batch.objective import Objective
from keras_fdr.landscape.compiled_loop import gather
from keras_fdr.landscape.estimates import Estimate, mean
from keras_fdr.optimizer.sgd import measuring_optimizer
from keras_fdr.products import dot


class CurvatureSampler:
    """Draws ∇f^Bᵀ H ∇f^B and v(t+1)ᵀ H v(t+1) at the present weights.

    H is the Hessian of f. A draw takes the direction from one mini-batch and the
    Hessian from another, independent one, which leaves the mean as it is at the cost
    of two batches instead of the whole dataset.

    Args:
        model: A compiled and built `keras.Model`.
        dataset: What `FullBatchPass` takes; a `tf.data.Dataset` is read into memory.
        batch_size: Integer, |B|.
    """

    def __init__(self, model: keras.Model, dataset: Any, batch_size: int) -> None:
        self._arrays = as_arrays(dataset)
        self._objective = Objective(model, batch_spec(self._arrays))
        self._examples = arrays_length(self._arrays)
        check_batch_size(batch_size, self._examples)
        self._batch_size = batch_size
        self._draws = tf.function(
            self._compute, autograph=False, jit_compile=bool(model.jit_compile)
        )

    def draw(
        self,
        rng: np.random.Generator,
        samples: int,
        velocities: Sequence[keras.Variable] = (),
        momentum: float = 0.0,
        dampening: float = 0.0,
    ) -> np.ndarray:
        """Takes independent draws.

        Args:
            rng: A `numpy.random.Generator`.
            samples: Integer, the number of draws.
            velocities: List of `keras.Variable`, v(t). Defaults to none.
            momentum: Float, μ. Defaults to `0.0`.
            dampening: Float, ν. Defaults to `0.0`.

        Returns:
            Float64 array of shape `(samples, 2)`: ∇f^Bᵀ H ∇f^B and, with
            v(t+1) = μ v(t) − (1−ν) ∇f^B, v(t+1)ᵀ H v(t+1).
        """
        size = self._batch_size
        batches = independent_batches(rng, self._examples, size, 2 * samples)
        v = [tf.convert_to_tensor(w.value) for w in velocities] if momentum else []
        batches = tf.constant(batches.reshape(samples, 2, size))
        return self._draws(batches, v, momentum, dampening).numpy()

    def _compute(
        self, batches: Any, v: list[Any], momentum: Any, dampening: Any
    ) -> Any:
        rows = tf.TensorArray("float64", size=tf.shape(batches)[0])

        def one(i: Any, rows: Any) -> tuple[Any, Any]:
            row = self._draw_one(batches[i, 0], batches[i, 1], v, momentum, dampening)
            return i + 1, rows.write(i, row)

        count = tf.shape(batches)[0]
        _, rows = tf.while_loop(lambda i, _: i < count, one, [0, rows])
        return rows.stack()

    def _draw_one(
        self, first: Any, second: Any, v: list[Any], momentum: Any, dampening: Any
    ) -> Any:
        g = self._zero_where_none(self._gradient(first))
        noise = dot(g, self.product(second, g))
        if not v:
            return tf.stack([noise, (1 - dampening) ** 2 * noise])
        v_next = [
            momentum * old - (1 - dampening) * part
            for old, part in zip(v, g, strict=True)
        ]  # eq. (10)
        return tf.stack([noise, dot(v_next, self.product(second, v_next))])

    def product(self, examples: Any, direction: list[Any]) -> list[Any]:
        """H^B d: the gradient of ∇f^B·d.

        Reverse over reverse: forward over reverse took 1.1 to 1.4 times as long here
        and fails on recurrent layers inside a compiled function.

        Args:
            examples: Integer tensor, the examples of B.
            direction: List of tensors, d, one per weight.

        Returns:
            List of tensors.
        """
        theta = [w.value for w in self._objective.weights]
        with tf.GradientTape() as tape:
            tape.watch(theta)
            along = tf.zeros((), theta[0].dtype)
            for g, d in zip(self._gradient(examples), direction, strict=True):
                if g is not None:
                    along += tf.reduce_sum(g * tf.stop_gradient(d))
        return tape.gradient(
            along, theta, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    def _gradient(self, examples: Any) -> list[Any]:
        batch = gather(self._arrays, examples)
        with _compat.twice_differentiable(self._objective.model):
            return self._objective.gradient(*(*batch, None)[:3])

    def _zero_where_none(self, tensors: Sequence[Any]) -> list[Any]:
        weights = self._objective.weights
        return [
            tf.zeros(w.shape, w.dtype) if t is None else t
            for t, w in zip(tensors, weights, strict=True)
        ]


def noise_curvature(
    model: keras.Model, dataset: Any, batch_size: int, samples: int = 256, seed: int = 0
) -> Estimate:
    """Tr(HC̃) = E_B[∇f^Bᵀ H ∇f^B] at the present weights, measured directly.

    H is the Hessian of f, with all regularisers. It is the independent check of
    FDR2, which finds the same number from gradients alone along a run.

    Example:

    >>> import keras, numpy as np
    >>> from keras_fdr import FDRSGD, landscape
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer=FDRSGD(), loss="mse")
    >>> x, y = np.ones((4, 1)), np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> model.set_weights([np.array([[1.5]]), np.array([0.0])])
    >>> curvature = landscape.noise_curvature(model, (x, y), 1, samples=2000)
    >>> curvature.contains(40.0)  # H = [[2, 2], [2, 2]], ∇f^B = 2(1.5 − y)(1, 1)
    True

    Args:
        model: A compiled `keras.Model`.
        dataset: `tf.data.Dataset` of batches or tuple of arrays, `(x, y)` or
            `(x, y, sample_weight)`; a `tf.data.Dataset` is read into memory.
        batch_size: Integer, |B|: the examples of a mini-batch.
        samples: Integer, at least 2: mini-batches drawn. Defaults to `256`.
        seed: Integer, which mini-batches are drawn. Defaults to `0`.

    Returns:
        An `Estimate`: the mean and its 95% interval over the samples.

    Raises:
        TypeError: If `model` or `dataset` is of another type.
        ValueError: As `FullBatchPass`, and if `batch_size` or `samples` is out of
            range.

    Reference:
        [Yaida, 2019](https://arxiv.org/abs/1810.00004), section 2.2.
    """
    return mean(_draw(model, dataset, batch_size, samples, seed)[:, 0])


def velocity_curvature(
    model: keras.Model, dataset: Any, batch_size: int, samples: int = 256, seed: int = 0
) -> Estimate:
    """⟨v(t+1)ᵀ H v(t+1)⟩ over the next mini-batch, measured directly.

    v(t+1) = μ v(t) − (1−ν) ∇f^B with the present weights and velocities: the right
    side of FDR2 with momentum, but for the factor η/2 and the average over a run.

    Example:

    >>> import keras, numpy as np
    >>> from keras_fdr import FDRSGD, landscape
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer=FDRSGD(dampening=0.5), loss="mse")
    >>> x, y = np.ones((4, 1)), np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> model.set_weights([np.array([[1.5]]), np.array([0.0])])
    >>> curvature = landscape.velocity_curvature(model, (x, y), 1, samples=2000)
    >>> curvature.contains(10.0)  # (1−ν)² Tr(HC̃), see `noise_curvature`
    True

    Args:
        model: A `keras.Model` compiled with `FDRSGD`.
        dataset: As in `noise_curvature`.
        batch_size: Integer, |B|: the examples of a mini-batch.
        samples: Integer, at least 2: mini-batches drawn. Defaults to `256`.
        seed: Integer, which mini-batches are drawn. Defaults to `0`.

    Returns:
        An `Estimate`: the mean and its 95% interval over the samples.

    Raises:
        TypeError: If `model` or `dataset` is of another type.
        ValueError: As `noise_curvature`, and if the optimizer is no `FDRSGD`.

    Reference:
        [Yaida, 2019](https://arxiv.org/abs/1810.00004), eq. (29), with the factor ½
        that it lacks.
    """
    optimizer = measuring_optimizer(model, "velocity_curvature")
    dynamics = (optimizer.velocities, optimizer.momentum, optimizer.dampening)
    return mean(_draw(model, dataset, batch_size, samples, seed, *dynamics)[:, 1])


def _draw(
    model: keras.Model,
    dataset: Any,
    batch_size: int,
    samples: int,
    seed: int,
    *dynamics: Any,
) -> np.ndarray:
    if samples < 2:
        raise ValueError(
            "`samples` must be at least 2, for an interval. "
            f"Received: samples={samples}"
        )
    sampler = CurvatureSampler(model, dataset, batch_size)
    return sampler.draw(np.random.default_rng(seed), samples, *dynamics)


def check_batch_size(batch_size: int, examples: int) -> None:
    """Refuses a batch size outside [1, examples]."""
    if not 1 <= batch_size <= examples:
        raise ValueError(
            "`batch_size` must be between 1 and the number of examples, "
            f"{examples}. Received: batch_size={batch_size}"
        )
