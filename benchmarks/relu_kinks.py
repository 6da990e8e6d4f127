"""The curvature that Hessian-vector products see, against that of the loss itself.

    python -m benchmarks.relu_kinks [--output FILE]

A 64-32-10 network on digits is trained with SGD until it is near stationary. Along
mini-batch gradients d, dᵀHd from Hessian-vector products over the whole dataset is
compared with [∇f(θ + εd) − ∇f(θ − εd)]·d / 2ε, whose gradients are exact. They agree
where f is smooth; the kinks of ReLU add to the second only. Writes JSON.
"""

import argparse
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_fdr
from benchmarks.kept import load
from keras_fdr import FDRSGD, FullBatchPass
from keras_fdr.landscape.curvature_sampler import CurvatureSampler

DISTANCES = (0.001, 0.01, 0.05, 0.1)
DIRECTIONS = 40
BATCH_SIZE = 32


def dot(a, b):
    """Σ a·b over two lists of tensors."""
    return sum(float(tf.reduce_sum(x * y)) for x, y in zip(a, b, strict=True))


def measure(activation, x, y):
    """The mean dᵀHd, and the finite differences over it at each ε."""
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(32, activation=activation)
    output = keras.layers.Dense(10, activation="softmax")
    flatten = keras.layers.Flatten()
    model = keras.Sequential([keras.Input(x.shape[1:]), flatten, hidden, output])
    model.compile(FDRSGD(0.05, l2=0.05), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=BATCH_SIZE, epochs=80, verbose=0)
    model.optimizer.learning_rate = 0.01
    model.fit(x, y, batch_size=BATCH_SIZE, epochs=60, verbose=0)

    full_batch = FullBatchPass(model, (x, y))
    product = tf.function(CurvatureSampler(model, (x, y), BATCH_SIZE).product)
    theta = [w.numpy() for w in model.trainable_variables]
    rng = np.random.default_rng(0)
    products, differences = [], {distance: [] for distance in DISTANCES}
    for _ in range(DIRECTIONS):
        batch = rng.choice(len(x), BATCH_SIZE, replace=False)
        d = FullBatchPass(model, (x[batch], y[batch]))(gradient=True).gradient
        products.append(dot(d, product(tf.range(len(x)), d)))
        for distance in DISTANCES:
            ends = []
            for sign in (1, -1):
                model.set_weights(
                    [w + sign * distance * g for w, g in zip(theta, d, strict=True)]
                )
                ends.append(full_batch(gradient=True).gradient)
            change = dot(ends[0], d) - dot(ends[1], d)
            differences[distance].append(change / (2 * distance))
        model.set_weights(theta)
    mean = float(np.mean(products))
    return {
        "product": round(mean, 5),
        "difference_over_product": {
            str(distance): round(float(np.mean(values)) / mean, 5)
            for distance, values in differences.items()
        },
    }


def main():
    """Measures both activations and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=default)
    args = parser.parse_args()
    (x, y), _ = load("digits")
    versions = {
        "keras_fdr": keras_fdr.__version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
    }
    result = {"versions": versions}
    for activation in ("tanh", "relu"):
        result[activation] = measure(activation, x, y)
        print(activation, result[activation])
    args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
