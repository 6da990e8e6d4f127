"""Fluctuation-dissipation relations for stochastic gradient descent, in Keras.

Reference implementation of [Yaida, 2019](https://arxiv.org/abs/1810.00004).
"""

from keras_fdr import requirements  # noqa: F401

# isort: split
from keras_fdr import landscape, plots
from keras_fdr._version import __version__
from keras_fdr.batches import shuffled_batches
from keras_fdr.callback.fdr_callback import FDRCallback
from keras_fdr.callback.final_decay import FinalDecay
from keras_fdr.distribution.trainer import prepare_distributed
from keras_fdr.export.trainer import export_trainer
from keras_fdr.full_batch.passes import FullBatchPass
from keras_fdr.full_batch.result import FullBatch
from keras_fdr.measure import measure
from keras_fdr.measured import MeasuredOptimizer
from keras_fdr.observables.layer import FDRObservables
from keras_fdr.optimizer.cut_table import Cut
from keras_fdr.optimizer.sgd import FDRSGD
from keras_fdr.record import Record
from keras_fdr.report.page import fdr_report
from keras_fdr.restart.chief import on_chief
from keras_fdr.rules import (
    ConfidenceRule,
    DistanceRule,
    DriftRule,
    PflugRule,
    ThresholdRule,
    TwoLooksRule,
    Verdict,
    relaxation_steps,
)
from keras_fdr.tensorboard import FDRTensorBoard

__all__ = [
    "FDRSGD",
    "ConfidenceRule",
    "Cut",
    "DistanceRule",
    "DriftRule",
    "FDRCallback",
    "FDRObservables",
    "FDRTensorBoard",
    "FinalDecay",
    "FullBatch",
    "FullBatchPass",
    "MeasuredOptimizer",
    "PflugRule",
    "Record",
    "ThresholdRule",
    "TwoLooksRule",
    "Verdict",
    "__version__",
    "export_trainer",
    "fdr_report",
    "landscape",
    "measure",
    "on_chief",
    "plots",
    "prepare_distributed",
    "relaxation_steps",
    "shuffled_batches",
]
