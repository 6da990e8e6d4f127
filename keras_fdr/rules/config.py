"""Rules made again from their arguments."""

from typing import Any


class Configured:
    """A rule that is all in its arguments, each kept under its own name.

    The form is that of Keras' objects, so that they can hold a rule; nothing here
    knows of Keras.
    """

    arguments: tuple[str, ...] = ()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as numbers and strings."""
        return {name: getattr(self, name) for name in self.arguments}

    @classmethod
    def from_config(cls, config):
        """The rule that `get_config` describes."""
        return cls(**config)
