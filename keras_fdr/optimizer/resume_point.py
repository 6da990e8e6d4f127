"""The epoch from which a saved run resumes."""

import keras

from keras_fdr.state_layer import StateLayer, StateVariable


class ResumePoint(StateLayer):
    """The next epoch, and whether training was ended, saved with the weights.

    `BackupAndRestore` of Keras keeps the epoch in a separate file. A kill can leave
    that file older than the weights, see `keras_fdr.restart.backup`.
    """

    next_epoch: keras.Variable
    iterations: keras.Variable
    ended: keras.Variable

    def state_variables(self) -> list[StateVariable]:
        """The next epoch, when it was marked, and whether training was ended."""
        return [
            StateVariable("next_epoch", "next_epoch", dtype="int64"),
            # If this differs from `optimizer.iterations`, steps ran after the last
            # `mark`.
            StateVariable("iterations", "iterations", dtype="int64"),
            StateVariable("ended", "ended", dtype="bool"),
        ]

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
