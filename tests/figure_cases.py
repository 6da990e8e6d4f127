"""The paper's protocol in small, on scikit-learn's digits."""

import keras
from protocol import Protocol


def network():
    layers = [keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers])


PROTOCOL = Protocol(
    name="small",
    title="Small",
    dataset="digits",
    normalize="range",
    network=network,
    momentum=0.5,
    stages=((0.05, 100), (0.02, 200)),
    seeds=3,
    default_scale={1: 0.02, 2: 0.03, 3: 0.03, 4: 0.02},
    default_seeds=2,
    default_examples=dict.fromkeys((1, 2, 3, 4), 500),
)
