"""The records that `FDRObservables` would keep, in NumPy."""

import numpy as np

from keras_fdr import Record

CAPACITY = 1024


class BlockRecorder:
    """What `BlockSums` keeps, for many runs at once."""

    def __init__(self, runs, capacity=CAPACITY):
        self.sums = np.zeros((runs, capacity, 5))
        self.steps, self.block_length = 0, 1

    def add(self, rows):
        """Adds one step of every run; `rows` has shape `(runs, 5)`."""
        capacity = self.sums.shape[1]
        if self.steps == capacity * self.block_length:
            half = capacity // 2
            self.sums[:, :half] = self.sums[:, ::2] + self.sums[:, 1::2]
            self.sums[:, half:] = 0
            self.block_length *= 2
        self.sums[:, self.steps // self.block_length] += rows
        self.steps += 1

    def record(self, run):
        """The `Record` of one run."""
        blocks = -(-self.steps // self.block_length)
        sums = self.sums[run, :blocks].copy()
        return Record(sums, self.steps, self.block_length)


def shortened(rows, capacity=CAPACITY):
    """The record of all these rows, shape `(steps, 5)`."""
    steps, length = len(rows), 1
    while capacity * length < steps:
        length *= 2
    sums = np.add.reduceat(rows, np.arange(0, steps, length))
    return Record(sums, steps, length)
