"""What a run needs to resume exactly after it was killed."""

from keras_fdr.restart.chief import on_chief

__all__ = ["on_chief"]
