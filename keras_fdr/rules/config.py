"""Rules that can be created again from their arguments."""

import dataclasses
from typing import Any, Self


class Configured:
    """Base of a rule that is a dataclass: its fields are its whole configuration.

    The two methods have the form that Keras needs to save an object. But this module
    does not import Keras.

    Example:

    >>> from keras_fdr import ThresholdRule
    >>> ThresholdRule.from_config({"threshold": 0.02})
    ThresholdRule(threshold=0.02)
    """

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as numbers and strings."""
        names = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The rule that `get_config` describes."""
        return cls(**config)

    def _set(self, name: str, value: Any) -> None:
        """Sets a field to its checked value, while a frozen dataclass is created."""
        object.__setattr__(self, name, value)
