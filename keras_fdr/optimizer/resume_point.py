"""Which epoch a saved state goes on with."""

import keras

from keras_fdr.saving import SavedState


class Progress(SavedState, keras.layers.Layer):
    """The epoch that comes next and whether training was ended, beside the weights.

    Keras' `BackupAndRestore` keeps the epoch in a file of its own, which a kill can
    leave behind the weights; see `backup`.
    """

    def __init__(self, **kwargs):
        super().__init__(trainable=False, autocast=False, **kwargs)

    def build(self, input_shape=None):
        """Creates the variables; they do not depend on any input."""
        del input_shape
        once = {"trainable": False, "aggregation": "only_first_replica"}
        self.next_epoch = self.add_weight(
            shape=(), initializer="zeros", dtype="int64", name="next_epoch", **once
        )
        # Where it differs from the optimizer's own, steps were taken since.
        self.iterations = self.add_weight(
            shape=(), initializer="zeros", dtype="int64", name="iterations", **once
        )
        self.ended = self.add_weight(
            shape=(), initializer="zeros", dtype="bool", name="ended", **once
        )
        self.load_waiting()

    def mark(self, next_epoch, optimizer, ended):
        """Remembers where training goes on, at the end of an epoch.

        Args:
            next_epoch: Integer, the epoch to go on with, counted from 0.
            optimizer: The optimizer that counts the iterations.
            ended: Boolean, whether `FDRCallback` has stopped training.
        """
        self.next_epoch.assign(next_epoch)
        # Keras' first variable; `iterations` counts groups of accumulated batches.
        self.iterations.assign(optimizer.variables[0])
        self.ended.assign(ended)

    def saved_settings(self):
        """None: every run has these variables."""
        return {}
