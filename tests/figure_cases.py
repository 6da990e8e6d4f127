"""The paper's protocol in small, on scikit-learn's digits."""

import sys
from pathlib import Path

import keras

from keras_fdr import FDRSGD

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from figure_runs import Protocol


def build_model(momentum):
    layers = [keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    model.compile(
        optimizer=FDRSGD(0.1, momentum=momentum, l2=0.01),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=3,
        jit_compile=False,
    )
    return model


PROTOCOL = Protocol(
    name="small",
    title="Small",
    dataset="digits",
    normalize="range",
    build_model=build_model,
    momentum=0.5,
    stages=((0.05, 100), (0.02, 200)),
    seeds=3,
    default_scale={1: 0.02, 2: 0.03, 3: 0.03, 4: 0.02},
    default_seeds=2,
    default_examples=500,
)
