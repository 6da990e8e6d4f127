"""The record of a run in NumPy: half-running averages and series."""

from keras_fdr.record.columns import FULL_BATCH_ROW, ROW, VARIABLE_ROW
from keras_fdr.record.record import Record

__all__ = ["FULL_BATCH_ROW", "ROW", "VARIABLE_ROW", "Record"]
