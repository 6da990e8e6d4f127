"""Loss and gradient over a whole dataset."""

from keras_fdr.full_batch.passes import FullBatch, FullBatchPass

__all__ = ["FullBatch", "FullBatchPass"]
