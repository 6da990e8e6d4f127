"""The decay of the learning rate at the end of training."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_fdr.arguments import check_boolean, check_number
from keras_fdr.measured import Measured
from keras_fdr.notices import notice
from keras_fdr.optimizer.decay_state import Span
from keras_fdr.rules.config import Configured

if TYPE_CHECKING:
    from keras_fdr.callback.fdr_callback import FDRCallback

_SHAPES = {"linear": lambda x: 1 - x, "sqrt": lambda x: 1 - math.sqrt(x)}


@keras.saving.register_keras_serializable(package="keras_fdr")
@dataclass(frozen=True)
class FinalDecay(Configured):
    """A decay of the learning rate to nearly 0 over the last share of the epochs.

    Of E planned epochs, the last ⌈`share` E⌉ are the decay. The rate is constant
    before. In the decay's epoch k = 0, 1, …, n−1 it is

        η = η₀ g((k + ½)/n),   g(x) = 1 − x   or   1 − √x,

    the value of g in the middle of the epoch.

    With `FDRCallback(final_decay=FinalDecay())` the decay begins earlier if the rule
    calls the run stationary. Then it takes all epochs that are left, so that a rate
    that has done its work is left early and slowly. With `ends_early=True` it takes as
    many epochs as planned, and training ends with it, before the planned end.

    Example:

    >>> decay = FinalDecay(share=0.25, shape="linear")
    >>> span = decay.planned(epochs=16, learning_rate=0.1)
    >>> span
    Span(first_epoch=12, epochs=4, learning_rate=0.1)
    >>> [round(decay.rate(span, epoch), 4) for epoch in (11, 12, 13, 14, 15)]
    [0.1, 0.0875, 0.0625, 0.0375, 0.0125]
    >>> decay.from_now(epochs_done=6, epochs=16, learning_rate=0.1)
    Span(first_epoch=6, epochs=10, learning_rate=0.1)

    A loop of one's own, such as one around an exported trainer, sets the rate of each
    epoch by `rate(span, epoch)`, and replaces the span by `from_now(...)` when it finds
    the run stationary. All that it must keep is the span.

    Args:
        share: Float in (0, 1), the share of the epochs. Defaults to `0.25`.
        shape: `"linear"` or `"sqrt"`, the function g. Defaults to `"sqrt"`.
        ends_early: Boolean, whether a decay that begins early also ends early. Defaults
            to `False`.

    Raises:
        TypeError: If `share` is not a number, or `ends_early` not a boolean.
        ValueError: If `share` is out of range, or `shape` is neither.

    Reference:
        [Hägele et al., 2024](https://arxiv.org/abs/2405.18392).
    """

    share: float = 0.25
    shape: str = "sqrt"
    ends_early: bool = False

    def __post_init__(self) -> None:
        self._set("share", check_number("share", self.share, low=0, high=1))
        check_boolean("ends_early", self.ends_early)
        if not isinstance(self.shape, str) or self.shape not in _SHAPES:
            raise ValueError(
                f'`shape` must be "linear" or "sqrt". Received: shape={self.shape!r}'
            )

    def planned(self, epochs: int, learning_rate: float) -> Span:
        """The span at the end of the planned epochs.

        Args:
            epochs: Integer, the planned epochs of the whole run.
            learning_rate: Float, η₀.

        Returns:
            A `Span`: `first_epoch` counted from 0, `epochs`, `learning_rate`.
        """
        count = _ceil(self.share * epochs)
        return Span(epochs - count, count, learning_rate)

    def from_now(self, epochs_done: int, epochs: int, learning_rate: float) -> Span:
        """The span of a decay that begins now, because the run is stationary.

        Args:
            epochs_done: Integer, the epochs trained so far, at least 1.
            epochs: Integer, the planned epochs of the whole run, more than that.
            learning_rate: Float, η₀.

        Returns:
            A `Span` that ends no later than the planned epochs.
        """
        count = epochs - epochs_done
        if self.ends_early:
            count = min(_ceil(self.share * epochs), count)
        return Span(epochs_done, count, learning_rate)

    def rate(self, span: Span, epoch: int, min_lr: float = 0.0) -> float:
        """The learning rate of an epoch.

        Args:
            span: A `Span`.
            epoch: Integer, counted from 0.
            min_lr: Float, the least rate of the decay. Defaults to `0.0`.

        Returns:
            Float, η. Before the span it is the rate that the span starts from. After
            the span it is the rate of its last epoch.
        """
        done = min(epoch, span.end - 1) - span.first_epoch
        if done < 0:
            return span.learning_rate
        scale = _SHAPES[self.shape]((done + 0.5) / span.epochs)
        # A rate that began below `min_lr` does not rise to it.
        return max(span.learning_rate * scale, min(min_lr, span.learning_rate))


def _ceil(x: float) -> int:
    """Rounds up. An excess over an integer that is only a rounding error is ignored."""
    return math.ceil(x * (1 - 1e-12))


def prepare(callback: "FDRCallback", optimizer: Measured) -> None:
    """Makes the variables of the decay, before Keras restores a backup into them.

    Args:
        callback: The `FDRCallback`, when training begins.
        optimizer: What it measures.

    Raises:
        ValueError: If the number of planned epochs is not known.
    """
    if not callback.params.get("epochs"):
        raise ValueError(
            "`final_decay` needs the number of planned epochs. `fit` knows it, and a "
            "loop of one's own must pass it on, as in `CallbackList(..., epochs=20)`. "
            f"Received: params={callback.params}"
        )
    if not optimizer.final_decay.built:
        with callback.model.distribute_strategy.scope():
            optimizer.final_decay.build()


def begin_epoch(callback: "FDRCallback", optimizer: Measured, epoch: int) -> None:
    """Sets the learning rate of the epoch, from variables alone.

    Args:
        callback: The `FDRCallback`.
        optimizer: What it measures.
        epoch: Integer, counted from 0.
    """
    decay, epochs = _planned(callback)
    state, present = optimizer.final_decay, _rate_of(optimizer)
    span = state.read()
    if span and not span.first_epoch <= epoch < span.end:
        notice(
            "The model comes from a run whose final decay has ended. Its learning rate "
            f"is still where that decay left it, at {present:.4g}; that run had "
            f"started at {span.learning_rate:.4g}. Assign "
            "`model.optimizer.learning_rate` before `fit` to train with another rate."
        )
        state.write(None)
        span = None
    if span is None:
        if epoch < decay.planned(epochs, present).first_epoch:
            return
        # This run may have been started in the middle of the planned span.
        span = Span(epoch, max(1, epochs - epoch), present)
        state.write(span)
    rate = np.float32(decay.rate(span, epoch, callback.min_lr))
    if np.float32(present) != rate:
        optimizer.learning_rate = float(rate)
        optimizer.observables.reset()


def end_epoch(
    callback: "FDRCallback", optimizer: Measured, epoch: int, stationary: bool
) -> str:
    """Begins the decay early, or ends training together with the decay.

    Args:
        callback: The `FDRCallback`.
        optimizer: What it measures.
        epoch: Integer, counted from 0.
        stationary: Boolean, whether the rule calls the run stationary and may act.

    Returns:
        String, what was done; empty if nothing was.
    """
    decay, epochs = _planned(callback)
    done = epoch + 1
    state = optimizer.final_decay
    span = state.read()
    if span:
        if span.end <= done < epochs:
            callback.model.stop_training = True
            return f"Epoch {done}: the final decay has ended, so training ends."
        return ""
    present = _rate_of(optimizer)
    if not stationary or done >= decay.planned(epochs, present).first_epoch:
        return ""
    assert callback.verdict is not None, "a rule found the run stationary"
    span = decay.from_now(done, epochs, present)
    state.write(span)
    end = (
        f"epoch {span.end} instead of {epochs}"
        if span.end < epochs
        else "the planned end"
    )
    return (
        f"Epoch {done}: the final decay begins now, and lasts until {end}. "
        f"{callback.verdict.reason}"
    )


def _planned(callback: "FDRCallback") -> tuple[FinalDecay, int]:
    """The decay and the planned epochs."""
    assert callback.final_decay is not None, "called only where there is one"
    return callback.final_decay, callback.params["epochs"]


def _rate_of(optimizer: Measured) -> float:
    # `float` of a variable fails under a distribution strategy.
    return float(optimizer.learning_rate.numpy())
