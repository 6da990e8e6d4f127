"""Finds the `FDRSGD` of a compiled model."""

from typing import Any

import keras

from keras_fdr.model_checks import check_model
from keras_fdr.optimizer.sgd import FDRSGD


def measuring_optimizer(model: Any, who: str) -> FDRSGD:
    """The `FDRSGD` of a compiled model, also inside a `LossScaleOptimizer`.

    Args:
        model: A compiled `keras.Model`.
        who: Name of the caller, for the error.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If the model has another optimizer.
    """
    check_model(model)
    # A `Sequential` has no such attribute before `compile`.
    optimizer = getattr(model, "optimizer", None)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not isinstance(inner, FDRSGD):
        others = [
            f"{name} ({type(value).__name__})"
            for name, value in vars(model).items()
            if isinstance(value, keras.optimizers.Optimizer) and value is not optimizer
        ]
        found = f"optimizer={type(inner).__name__}"
        if others:
            found += (
                f" as `model.optimizer`, and {', '.join(others)}, which `{who}` does "
                "not measure"
            )
        raise ValueError(
            f"`{who}` needs an optimizer that measures its steps: compile "
            "the model with `keras_fdr.FDRSGD`. "
            f"Received: {found}"
        )
    return inner
