"""Several devices and several workers."""

from keras_fdr.distribution.trainer import prepare_distributed

__all__ = ["prepare_distributed"]
