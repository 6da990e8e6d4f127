"""Fluctuation-dissipation relations for stochastic gradient descent, in Keras.

Reference implementation of [Yaida, 2019](https://arxiv.org/abs/1810.00004).
"""

from keras_fdr import requirements  # noqa: F401

# isort: split
from keras_fdr import landscape, plots
from keras_fdr._version import __version__
from keras_fdr.callback import FDRCallback
from keras_fdr.cuts import Cut
from keras_fdr.distribution import prepare_distributed
from keras_fdr.export import export_trainer
from keras_fdr.full_batch import FullBatch, FullBatchPass
from keras_fdr.observables import FDRObservables
from keras_fdr.optimizer import FDRSGD
from keras_fdr.record import Record
from keras_fdr.rules import ConfidenceRule, DriftRule, ThresholdRule, Verdict
from keras_fdr.workers import on_chief

__all__ = [
    "FDRSGD",
    "ConfidenceRule",
    "Cut",
    "DriftRule",
    "FDRCallback",
    "FDRObservables",
    "FullBatch",
    "FullBatchPass",
    "Record",
    "ThresholdRule",
    "Verdict",
    "__version__",
    "export_trainer",
    "landscape",
    "on_chief",
    "plots",
    "prepare_distributed",
]
