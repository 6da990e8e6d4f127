"""A layer that only holds a few variables, which every checkpoint carries."""

from typing import Any, NamedTuple

import keras

from keras_fdr.saving import SavedState


class StateVariable(NamedTuple):
    """A variable of a `StateLayer`.

    Attributes:
        attribute: String, the attribute of the layer.
        name: String, the name of the variable in files.
        shape: Tuple of integers.
        dtype: String.
        initializer: String.
    """

    attribute: str
    name: str
    shape: tuple[int, ...] = ()
    dtype: str = "float64"
    initializer: str = "zeros"


class StateLayer(SavedState, keras.layers.Layer):
    """Makes the variables that a subclass names, and saves them with its settings.

    They are neither trained nor summed over replicas.

    Args:
        **kwargs: `name` of the layer.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trainable=False, dtype="float64", autocast=False, **kwargs)

    def state_variables(self) -> list[StateVariable]:
        """List of `StateVariable`, in the order in which files have them."""
        raise NotImplementedError

    def build(self, input_shape: Any = None) -> None:
        """Creates the variables. Their shapes are known, so none is needed."""
        del input_shape
        for attribute, name, shape, dtype, initializer in self.state_variables():
            variable = self.add_weight(
                shape=shape,
                dtype=dtype,
                initializer=initializer,
                name=name,
                trainable=False,
                aggregation="only_first_replica",
            )
            setattr(self, attribute, variable)
        self.load_waiting()

    def saved_settings(self) -> dict[str, Any]:
        """Empty, where every run has the same variables."""
        return {}
