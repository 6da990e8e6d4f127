"""What a step measures, and the record of it."""

from keras_fdr.observables.layer import FDRObservables

__all__ = ["FDRObservables"]
