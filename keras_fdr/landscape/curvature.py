"""The curvature along the gradient noise, and along the velocity, at fixed weights."""

from typing import Any

import keras
import numpy as np

from keras_fdr.arguments import check_integer
from keras_fdr.landscape.curvature_sampler import CurvatureSampler
from keras_fdr.landscape.estimates import Estimate, mean
from keras_fdr.optimizer.lookup import measuring_optimizer


def noise_curvature(
    model: keras.Model,
    dataset: Any,
    batch_size: int = 100,
    samples: int = 256,
    seed: int = 0,
) -> Estimate:
    """The curvature along the gradient noise at the present weights, Tr(HC̃).

    This is the mean over mini-batches B of the curvature of the loss f in the direction
    of the mini-batch gradient ∇f^B, times the squared length of this gradient:

        Tr(HC̃) = E_B[∇f^Bᵀ H ∇f^B]

    H is the Hessian of f, with all regularisers. C̃ is the second moment of ∇f^B. FDR2
    finds the same number along a run, from gradients alone. This function measures it
    with Hessian-vector products, so it is an independent check.

    The first call for a model compiles. Later calls, also at other weights or with
    other data of the same shapes, take only the time of the draws.

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
            `(x, y, sample_weight)`. A `tf.data.Dataset` is read into memory.
        batch_size: Integer, the examples of a mini-batch. The noise C̃ depends on it, so
            pass the one that you train with. Defaults to `100`, as in `sweep`, so that
            both measure the same number.
        samples: Integer, at least 2, the number of draws. Defaults to `256`.
        seed: Integer, at least 0, the seed of the draws. Defaults to `0`.

    Returns:
        An `Estimate`: the mean and its 95% interval over the samples.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: As `FullBatchPass`, and if `batch_size` or `samples` is out of
            range.

    Reference:
        [Yaida, 2019](https://arxiv.org/abs/1810.00004), section 2.2.
    """
    return mean(_draw(model, dataset, batch_size, samples, seed)[:, 0])


def velocity_curvature(
    model: keras.Model,
    dataset: Any,
    batch_size: int = 100,
    samples: int = 256,
    seed: int = 0,
) -> Estimate:
    """The curvature along the next velocity, ⟨v(t+1)ᵀ H v(t+1)⟩.

    The next velocity is v(t+1) = μ v(t) − (1−ν) ∇f^B, with the present weights and
    velocities v(t), momentum μ and dampening ν. ⟨ ⟩ is the mean over mini-batches B,
    and H the Hessian of the loss f. Times η/2, with the learning rate η, and averaged
    over a run, this is the right side of FDR2 with momentum.

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
        batch_size: Integer, as in `noise_curvature`. Defaults to `100`.
        samples: Integer, at least 2, the number of draws. Defaults to `256`.
        seed: Integer, at least 0, the seed of the draws. Defaults to `0`.

    Returns:
        An `Estimate`: the mean and its 95% interval over the samples.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: As `noise_curvature`, and if the optimizer is not an `FDRSGD`.

    Reference:
        [Yaida, 2019](https://arxiv.org/abs/1810.00004), eq. (29), with the missing
        factor ½.
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
    # An interval needs two samples.
    samples = check_integer("samples", samples, 2)
    seed = check_integer("seed", seed, 0)
    batch_size = check_integer("batch_size", batch_size, 1)
    sampler = CurvatureSampler(model, dataset, batch_size)
    return sampler.draw(np.random.default_rng(seed), samples, *dynamics)
