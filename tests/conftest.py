"""Settings of every test: quiet logs, fixed seeds, a fresh Keras."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores. Both variables must be set before TensorFlow and NumPy
    # are imported, and the processes that tests start inherit them.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import numpy as np
import pytest
import tensorflow as tf
from lanes import wide_cases

# Logical devices stand for GPUs.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 4,
)


def pytest_configure(config):
    # Every test is seeded, and many train on arrays. What they compare does not depend
    # on whether the noise repeats. Tests of this warning look for it themselves.
    config.addinivalue_line(
        "filterwarnings", "ignore:.fit. will train on the same batches:UserWarning"
    )


@pytest.hookimpl(tryfirst=True)  # Before pytest takes what `-m` names.
def pytest_collection_modifyitems(items):
    names = [f"{item.path.name}::{item.name.split('[')[0]}" for item in items]
    for position in wide_cases(names):
        items[position].add_marker("wide")


@pytest.fixture(autouse=True, scope="module")
def clear_session():
    keras.backend.clear_session()
    # Functions that TensorFlow keeps: else the collector goes through those of all
    # earlier tests again and again.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fixed_seed_and_policy():
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="session")
def digits():
    """200 real 8×8 digits: float32 images in [0, 1], integer labels."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x[:200] / 16).astype("float32"), y[:200].astype("int32")


@pytest.fixture
def rng():
    return np.random.default_rng(0)
