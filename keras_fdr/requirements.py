"""What must hold before anything else is imported."""

import os
from collections.abc import Mapping

import keras


def check_backend(backend: str, environment: Mapping[str, str]) -> None:
    """Refuses surroundings in which nothing of this package can work.

    Args:
        backend: String, the backend of Keras.
        environment: Mapping of environment variables.

    Raises:
        ImportError: If Keras does not run on TensorFlow, or if `tf.keras` is Keras 2.
    """
    if backend != "tensorflow":
        raise ImportError(
            "keras_fdr needs Keras on the TensorFlow backend: set "
            "`KERAS_BACKEND=tensorflow` before Keras is imported. "
            f"Received: backend={backend!r}"
        )
    legacy = environment.get("TF_USE_LEGACY_KERAS")
    # These are the values that TensorFlow takes for yes.
    if legacy in ("1", "true", "True"):
        raise ImportError(
            "keras_fdr needs Keras 3 on the TensorFlow backend, but with "
            "`TF_USE_LEGACY_KERAS` the models of `tf.keras` are those of Keras 2. "
            "Unset that variable before TensorFlow is imported. "
            f"Received: TF_USE_LEGACY_KERAS={legacy}"
        )


check_backend(keras.backend.backend(), os.environ)
