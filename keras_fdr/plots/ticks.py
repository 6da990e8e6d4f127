"""Ticks of log axes that can be read over any span. Imports matplotlib."""

import math
from typing import Any

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator


class _FewTicks(Locator):
    """Powers of ten, then 1, 2 and 5 times these, then round numbers.

    The first of these that has at least three ticks between the limits is used.
    """

    def __call__(self) -> Any:
        """The places of the ticks."""
        return self.tick_values(*self.axis.get_view_interval())  # type: ignore[union-attr]

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """The places of the ticks between two limits."""
        low, high = sorted((vmin, vmax))
        if low <= 0:
            return []
        for digits in ([1.0], [1.0, 2.0, 5.0]):
            ticks = np.asarray(LogLocator(subs=digits).tick_values(low, high))
            ticks = ticks[(ticks >= low) & (ticks <= high)]
            if len(ticks) >= 3:
                return ticks
        for count in (4, 8):
            round_numbers = MaxNLocator(count, steps=[1, 2, 5, 10])
            ticks = np.asarray(round_numbers.tick_values(low, high))
            ticks = ticks[(ticks >= low) & (ticks <= high)]
            if len(ticks) >= 3:
                break
        return ticks


def readable_log_ticks(axis: Axis) -> None:
    """Gives a log axis ticks with plain labels, also over less than a decade.

    Args:
        axis: The `xaxis` or `yaxis` of a matplotlib `Axes` with a log scale.
    """
    axis.set_major_locator(_FewTicks())
    axis.set_major_formatter(FuncFormatter(_label))
    axis.set_minor_formatter(FuncFormatter(lambda value, position: ""))


def _label(value: float, position: int | None = None) -> str:
    del position
    if value <= 0 or 1e-4 < value < 1e5:
        return f"{value:.5g}"
    exponent = math.floor(math.log10(value) + 1e-9)
    digit = value / 10.0**exponent
    power = rf"10^{{{exponent}}}"
    return f"${power}$" if round(digit, 6) == 1 else rf"${digit:.4g}\times{power}$"
