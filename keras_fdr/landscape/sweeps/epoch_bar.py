"""The progress bar of a sweep."""

from collections.abc import Callable
from typing import Any

import keras


class EpochBar:
    """A progress bar over all epochs of a sweep, with the time left.

    Args:
        settings: The settings of the sweep.
        verbose: Integer. 0 shows nothing.
        function: A function that is also called with each number of epochs, or `None`.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        verbose: int,
        function: Callable[[int], object] | None = None,
    ) -> None:
        initial = settings["initial"][1] if settings["initial"] else 0
        per_seed = sum(epochs for _, epochs in settings["stages"])
        total = initial + per_seed * len(settings["seeds"])
        self._done = 0
        self._function = function
        self._bar = keras.utils.Progbar(total, unit_name="epoch") if verbose else None

    def add(self, epochs: int) -> None:
        """Counts epochs that were trained, now or by an earlier call."""
        self._done += epochs
        if self._function:
            self._function(epochs)
        if self._bar:
            self._bar.update(self._done)
