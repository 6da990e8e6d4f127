"""The epoch from which a saved run resumes."""

from typing import Any

import keras

from keras_fdr.saving import SavedState


class ResumePoint(SavedState, keras.layers.Layer):
    """The next epoch, and whether training was ended, saved with the weights.

    `BackupAndRestore` of Keras keeps the epoch in a separate file. A kill can leave
    that file older than the weights, see `keras_fdr.restart.backup`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trainable=False, autocast=False, **kwargs)

    def build(self, input_shape: Any = None) -> None:
        """Creates the variables. They do not depend on any input."""
        del input_shape
        once = {"trainable": False, "aggregation": "only_first_replica"}
        self.next_epoch = self.add_weight(
            shape=(), initializer="zeros", dtype="int64", name="next_epoch", **once
        )
        # If this differs from `optimizer.iterations`, steps ran after the last `mark`.
        self.iterations = self.add_weight(
            shape=(), initializer="zeros", dtype="int64", name="iterations", **once
        )
        self.ended = self.add_weight(
            shape=(), initializer="zeros", dtype="bool", name="ended", **once
        )
        self.load_waiting()

    def mark(
        self, next_epoch: int, optimizer: keras.optimizers.Optimizer, ended: bool
    ) -> None:
        """Saves where training resumes. The callback calls this at the end of an epoch.

        Args:
            next_epoch: Integer, the epoch to resume with, counted from 0.
            optimizer: The optimizer that counts the iterations.
            ended: Boolean, whether `FDRCallback` has stopped training.
        """
        self.next_epoch.assign(next_epoch)
        # The first variable of Keras counts batches. `iterations` would count groups of
        # accumulated batches.
        self.iterations.assign(optimizer.variables[0])
        self.ended.assign(ended)

    def saved_settings(self) -> dict[str, Any]:
        """This is empty, because every run has these variables."""
        return {}
