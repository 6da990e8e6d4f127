"""What scripts share: images, the network of appendix B.1, and how results are kept."""

import json
import os
import platform

import keras
import numpy as np
import tensorflow as tf

# Scripts import `load` from here.
from examples.data import load as load
from examples.jobs import versions


def mlp():
    """784-200-200-10, not compiled; for images that are flat already."""
    dense = keras.layers.Dense
    return keras.Sequential(
        [
            keras.Input((784,)),
            dense(200, activation="relu"),
            dense(200, activation="relu"),
            dense(10, activation="softmax"),
        ]
    )


def quartiles(values, digits=3):
    """Lower quartile, median and upper quartile, rounded."""
    return [round(float(q), digits) for q in np.quantile(values, [0.25, 0.5, 0.75])]


def keep(path, result):
    """Writes results as JSON, with what they were made with.

    Args:
        path: `Path` of the file.
        result: Dictionary.
    """
    gpus = tf.config.list_physical_devices("GPU")
    details = map(tf.config.experimental.get_device_details, gpus)
    made_with = {
        "cores": os.cpu_count(),
        "gpus": [about["device_name"] for about in details],
        "versions": {**versions(), "python": platform.python_version()},
    }
    path.write_text(json.dumps({**made_with, **result}, indent=1) + "\n")
    print(f"Wrote {path}", flush=True)
