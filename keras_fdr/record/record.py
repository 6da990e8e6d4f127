"""What a run measured since its learning rate last changed."""

import os
from dataclasses import dataclass
from dataclasses import fields as fields_of

import numpy as np

from keras_fdr.arguments import check_integer, check_path, is_number
from keras_fdr.record.checks import as_floats, as_names, as_rates
from keras_fdr.record.columns import ROW, VARIABLE_ROW
from keras_fdr.record.npz import read_record, write_record


@dataclass(frozen=True, eq=False)
class Record:
    """What a run measured since its record last began.

    The half-running average of an observable O after t steps, eq. (15), is

        Ō(t) = 1/(t − t0) Σ_{t0 < t' ≤ t} O(t'),   t0 = ⌊t/2⌋.

    The rows of `block_length` consecutive steps are summed into one block. While
    `block_length` is 1, t0 is exact. Later, t0 is the block boundary nearest to ⌊t/2⌋,
    which is at most half a block away.

    Example:

    >>> import numpy as np
    >>> rows = np.arange(20.0).reshape(4, 5)
    >>> record = Record(rows, steps=4)
    >>> record.half_running_average("dissipation")
    12.5
    >>> steps, averages = record.series("dissipation")
    >>> print(steps, averages)
    [1 2 3 4] [ 0.   5.   7.5 12.5]
    >>> record  # The ratio is that of dissipation to fluctuation.
    Record(steps=4, ratio=0.9259, learning_rate=nan)

    Args:
        sums: Float array of shape `(blocks, len(names))`: sums of the rows of each
            block. The last block may be incomplete.
        steps: Integer, t, the number of rows.
        block_length: Integer, the steps in a complete block. Defaults to `1`.
        learning_rate: Float, η₀, the learning rate that the record began with, or NaN
            if it is unknown. Defaults to NaN.
        names: Tuple of strings, what a row holds. In a record of full-batch passes a
            row is one pass, and t counts passes. The record of a single weight tensor
            holds only dissipation and fluctuation. Defaults to dissipation,
            fluctuation, velocity_gradient, gradient_norm_squared, loss.
        learning_rates: Float array of shape `(blocks,)`, the mean learning rate η of
            each block, or `None` if η was constant. If η changed, the sums of
            dissipation and fluctuation are over rows multiplied by η(t)/η₀, as the
            identity behind FDR1 needs them. Averages of the two are divided by the mean
            of η(t)/η₀, so that they are in the paper's units. Defaults to `None`.

    Raises:
        ValueError: If `sums` does not have the shape that `steps` and
            `block_length` ask for, or a number is out of range.
        TypeError: If an argument is of another type.
    """

    sums: np.ndarray
    steps: int
    block_length: int = 1
    learning_rate: float = float("nan")
    names: tuple[str, ...] = ROW
    learning_rates: np.ndarray | None = None

    def __post_init__(self) -> None:
        steps = check_integer("steps", self.steps, low=0)
        block_length = check_integer("block_length", self.block_length, low=1)
        if not is_number(self.learning_rate):
            raise TypeError(
                "`learning_rate` must be a number, or NaN where it is unknown. "
                f"Received: learning_rate={self.learning_rate!r}"
            )
        names = as_names(self.names)
        sums = as_floats("sums", self.sums)
        blocks = -(-steps // block_length)
        width = len(names)
        if sums.shape != (blocks, width):
            raise ValueError(
                f"`sums` must have one row of {width} numbers for each block of "
                f"`block_length` steps, so shape {(blocks, width)}. Received: "
                f"sums.shape={sums.shape}, steps={steps}, block_length={block_length}"
            )
        rates = as_rates(self.learning_rates, blocks)
        # The fields are of the same types, wherever the record came from.
        object.__setattr__(self, "sums", sums)
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "block_length", block_length)
        object.__setattr__(self, "learning_rate", float(self.learning_rate))
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "learning_rates", rates)

    def __repr__(self) -> str:
        # A record of full-batch passes has no ratio.
        has_ratio = set(VARIABLE_ROW) <= set(self.names)
        ratio = f"ratio={self.ratio:.4g}, " if has_ratio else ""
        names = "" if has_ratio else f", names={self.names}"
        return (
            f"Record(steps={self.steps}, {ratio}"
            f"learning_rate={self.learning_rate:.6g}{names})"
        )

    @classmethod
    def empty(cls, names: tuple[str, ...] = ROW) -> "Record":
        """A record without steps."""
        return cls(np.zeros((0, len(names))), steps=0, names=names)

    @property
    def window_start(self) -> int:
        """The step t0. The averages are over the steps t0 < t' ≤ t."""
        return int(self._window_blocks(self.steps)) * self.block_length

    def half_running_average(self, name: str) -> float:
        """Ō(t), eq. (15), at the newest step.

        Args:
            name: One of `Record.names`, or `"learning_rate"`.

        Returns:
            Float. NaN for a record without steps, or if a row in the window is NaN.
        """
        column = self._column(name)
        if self.steps == 0:
            return float("nan")
        first = self.window_start // self.block_length
        return float(column[first:].sum() / self._counts(name)[first:].sum())

    @property
    def ratio(self) -> float:
        """The mean dissipation over the mean fluctuation, Ō_L/Ō_R.

        It is 1 in a stationary state (FDR1). It is NaN if Ō_R is 0.
        """
        fluctuation = self.half_running_average("fluctuation")
        if fluctuation == 0:
            return float("nan")
        return self.half_running_average("dissipation") / fluctuation

    def series(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The half-running average at the end of every block, ready to plot.

        Args:
            name: One of `Record.names`, or `"learning_rate"`.

        Returns:
            `(steps, averages)`: an integer array of t and a float array of Ō(t), each
            of shape `(blocks,)`.
        """
        steps = self._block_ends()
        column = self._column(name)
        first = self._window_blocks(steps).astype(int)
        # A NaN would spread to all later running sums. So NaNs are counted instead, and
        # only the windows that contain one are NaN.
        finite = np.isfinite(column)
        total = np.concatenate([[0.0], np.cumsum(np.where(finite, column, 0.0))])
        broken = np.concatenate([[0], np.cumsum(~finite)])
        last = np.arange(1, len(steps) + 1)
        window = total[last] - total[first]
        counts = np.concatenate([[0.0], np.cumsum(self._counts(name))])
        averages = window / (counts[last] - counts[first])
        averages[broken[last] > broken[first]] = np.nan
        return steps, averages

    def block_means(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The mean over each block, which is a single step while `block_length` is 1.

        Args:
            name: One of `Record.names`, or `"learning_rate"`.

        Returns:
            `(steps, means)`: an integer array of the last step of each block and a
            float array of the block's mean, each of shape `(blocks,)`.
        """
        return self._block_ends(), self._column(name) / self._counts(name)

    def first_nonfinite(self, *names: str) -> tuple[int, int] | None:
        """The first block in the window with a NaN or infinite value.

        Args:
            *names: Some of `Record.names`.

        Returns:
            `(first, last)`, the steps of the block, or `None`.
        """
        start = self.window_start // self.block_length
        columns = np.stack([self._column(name)[start:] for name in names])
        bad = np.flatnonzero(~np.isfinite(columns).all(axis=0))
        if len(bad) == 0:
            return None
        before = int(start + bad[0]) * self.block_length
        return before + 1, min(before + self.block_length, self.steps)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the record as a NumPy `.npz` file.

        A file of that name is replaced only when the new one is complete.

        Args:
            path: File name or path object, used as it is.
        """
        fields = {field.name: getattr(self, field.name) for field in fields_of(self)}
        write_record(check_path("path", path), fields)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Record":
        """Reads a record that `save` wrote.

        Args:
            path: File name or path object.

        Returns:
            A `Record`.

        Raises:
            TypeError: If `path` is neither a string nor a path object.
            ValueError: If the file is not a complete record.
        """
        return read_record(check_path("path", path), cls)

    def _counts(self, name: str) -> np.ndarray:
        """What the sums of each block are divided by to get a mean."""
        counts = np.diff(self._block_ends(), prepend=0).astype(np.float64)
        if self.learning_rates is not None and name in VARIABLE_ROW:
            # The rows were multiplied by η(t)/η₀.
            counts *= self.learning_rates / self.learning_rate
        return counts

    def _column(self, name: str) -> np.ndarray:
        known = (*self.names, "learning_rate")
        if not isinstance(name, str) or name not in known:
            rule = f"`name` must be one of {', '.join(known)}"
            raise ValueError(f"{rule}. Received: name={name!r}")
        if name == "learning_rate":
            rates = self.learning_rates
            if rates is None:
                rates = np.full(len(self.sums), self.learning_rate)
            return rates * self._counts(name)
        return self.sums[:, self.names.index(name)]

    def _block_ends(self) -> np.ndarray:
        ends = np.arange(1, len(self.sums) + 1) * self.block_length
        return np.minimum(ends, self.steps)

    def _window_blocks(self, steps: int | np.ndarray) -> np.ndarray:
        # This is the boundary nearest to ⌊t/2⌋, or the earlier one of two.
        return np.ceil((np.asarray(steps) // 2) / self.block_length - 0.5)
