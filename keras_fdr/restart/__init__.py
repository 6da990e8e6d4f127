"""Everything that a killed run needs to resume exactly."""

from keras_fdr.restart.chief import on_chief

__all__ = ["on_chief"]
