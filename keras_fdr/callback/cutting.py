"""The cut of the learning rate, section 3.3 of the paper."""

from typing import TYPE_CHECKING

import numpy as np

from keras_fdr.callback.columns import rate_of
from keras_fdr.measured import Measured
from keras_fdr.optimizer.cut_table import Cut
from keras_fdr.restart.callback_list import rate_writers
from keras_fdr.rules import Verdict

if TYPE_CHECKING:
    from keras_fdr.callback.fdr_callback import FDRCallback


def cut(
    callback: "FDRCallback", optimizer: Measured, epoch: int, verdict: Verdict
) -> Cut | None:
    """Multiplies the learning rate by `factor`, and begins a record: t ← 0.

    Args:
        callback: The `FDRCallback`.
        optimizer: What it measures.
        epoch: Integer, counted from 0.
        verdict: The `Verdict` that the run is stationary.

    Returns:
        The `Cut`; `None` if the rate is at `min_lr` already.
    """
    old = rate_of(optimizer)
    assert old is not None, "an optimizer of several rates is refused before"
    new = max(callback.factor * old, callback.min_lr)
    if np.float32(new) >= np.float32(old):
        return None
    optimizer.learning_rate = new
    optimizer.observables.reset()
    if callback.reset_velocities_on_cut:
        optimizer.reset_velocities()
    made = Cut(epoch + 1, old, new, verdict.ratio)
    optimizer.cut_table.append(made)
    return made


def note_on_rate(callback: "FDRCallback") -> str | None:
    """What to know of the column `learning_rate` in an epoch with a cut.

    Args:
        callback: The `FDRCallback`, when training begins.

    Returns:
        String; `None` if no other callback writes that column.
    """
    writers = rate_writers(callback)
    if not writers:
        return None
    return (
        f"{', '.join(writers)} will write the learning rate after the cut into the "
        "logs of this epoch as `learning_rate`, although the epoch was trained with "
        "the rate before it. Read `fdr_learning_rate` (`all_columns=True`) instead, "
        "which is the rate of the epoch."
    )
