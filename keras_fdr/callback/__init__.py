"""The adaptive learning-rate schedule in `fit`."""

from keras_fdr.callback.fdr_callback import FDRCallback

__all__ = ["FDRCallback"]
