"""Loss and gradient over a whole dataset."""

from keras_fdr.full_batch.passes import FullBatchPass
from keras_fdr.full_batch.result import FullBatch

__all__ = ["FullBatch", "FullBatchPass"]
