"""A small least-squares problem for the real `sweep`."""

import keras
import numpy as np
from oracles import LeastSquares

from keras_fdr import FDRSGD, landscape

_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(21, 3))
PROBLEM = LeastSquares(X, X @ [2.0, -1.0, 0.5] + _RNG.normal(size=21), l2=0.1)
START = np.array([1.0, 0.0, 2.0])
DATA = (PROBLEM.x, PROBLEM.y[:, None])


def half_square(y, y_pred):
    return keras.ops.sum(0.5 * (y - y_pred) ** 2, axis=-1)


def least_squares(
    momentum=0.0, dampening=0.0, l2=PROBLEM.l2, jit_compile=False, **optimizer
):
    dense = keras.layers.Dense(1, use_bias=False)
    model = keras.Sequential([keras.Input((3,)), dense])
    optimizer.setdefault("learning_rate", 0.01)
    optimizer = FDRSGD(momentum=momentum, dampening=dampening, l2=l2, **optimizer)
    model.compile(optimizer=optimizer, loss=half_square, jit_compile=jit_compile)
    model.set_weights([START[:, None]])
    return model


def small_sweep(model, data=DATA, stages=((0.1, 4), (0.05, 3)), **arguments):
    arguments = {"seeds": 2, "batch_size": 4, "verbose": 0} | arguments
    return landscape.sweep(model, data, list(stages), **arguments)
