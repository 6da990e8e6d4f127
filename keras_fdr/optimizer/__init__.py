"""`FDRSGD`, the optimizer of the paper, and the state of a run that it holds."""

from keras_fdr.optimizer.sgd import FDRSGD

__all__ = ["FDRSGD"]
