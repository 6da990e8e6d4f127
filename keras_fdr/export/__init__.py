"""The training step as a SavedModel."""

from keras_fdr.export.trainer import export_trainer

__all__ = ["export_trainer"]
