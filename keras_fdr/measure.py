"""Measures the steps of any Keras optimizer, which stays what it is."""

from typing import Any

import keras

from keras_fdr.arguments import check_number
from keras_fdr.attach import attach
from keras_fdr.measured import Measured, MeasuredOptimizer, memory_of
from keras_fdr.model_checks import check_model
from keras_fdr.observables.displacement import Displacements
from keras_fdr.observables.stored_record import StoredRecord
from keras_fdr.optimizer.sgd import FDRSGD


def measure(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer | None = None,
    *,
    beta: float | None = None,
    center: str | None = None,
    capacity: int = 1024,
    per_variable: bool = False,
) -> Measured:
    """Measures every step that an optimizer of a model takes from now on.

    `FDRCallback` does this when `fit` begins. Call `measure` before `fit` to
    choose the options below, for a training loop of your own, or before
    `model.load_weights`, so that the file's record is loaded too.

    For any optimizer, FDR1 is measured from the weights before and after each step.
    With the displacement Δ(t) = θ(t+1) − θ(t) and the memory β of the optimizer's
    first moment it compares

        O_L = β [θ(t)−θ_c]·Δ(t−1) − [θ(t)−θ_c]·Δ(t)   with   O_R = ½ (1+β) |Δ(t)|².

    Their averages agree in any stationary state. For SGD with momentum at a constant
    rate the ratio is that of the paper. The optimizer keeps its class: the files that
    Keras writes load where this package is not installed.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer="adamw", loss="mse")
    >>> measured = measure(model, per_variable=True)
    >>> x, y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
    >>> history = model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    >>> measured.observables.record().steps
    4
    >>> measured.observables.beta
    0.9

    Args:
        model: A compiled `keras.Model`.
        optimizer: The optimizer to measure, where the model has several. Defaults
            to `model.optimizer`.
        beta: Float in [0, 1), β. Defaults to the optimizer's `momentum` or `beta_1`,
            and to 0 where it has neither.
        center: `None` for θ_c = 0, or `"initial"` for the weights at which the record
            begins. Defaults to `None`.
        capacity: Even integer, at least 2, the blocks of the record. Defaults to
            `1024`.
        per_variable: Boolean, whether each weight tensor is recorded separately as
            well. Defaults to `False`.

    Returns:
        An object with `observables`, whose `record()` reads the record. For a model
        that was compiled with `FDRSGD` this is the `FDRSGD` itself.

    Raises:
        TypeError: If `model` is not a `keras.Model`, or `optimizer` not an optimizer.
        ValueError: If the model is not compiled, an option is out of range, or the
            optimizer is measured already with other options.
    """
    found = _optimizer_of(model, optimizer)
    options: dict[str, Any] = {
        "center": center,
        "capacity": capacity,
        "per_variable": per_variable,
    }
    if beta is not None:
        check_number("beta", beta, 0, 1, low_allowed=True)
        options["beta"] = float(beta)
    if isinstance(found, FDRSGD):
        _check_options(found.observables, options, "FDRSGD(observables=...)")
        return found
    if _has_record(found):
        options.setdefault("beta", found.observables.beta)
        _check_options(found.observables, options, "an earlier call of `measure`")
        return MeasuredOptimizer(found)
    options.setdefault("beta", memory_of(found))
    attach(model, _told_of_losses(model, optimizer), found, options)
    return MeasuredOptimizer(found)


def measured_optimizer(
    model: keras.Model, optimizer: keras.optimizers.Optimizer | None = None
) -> Measured:
    """Finds or makes what measures a model. `FDRCallback` uses it.

    Args:
        model: A compiled `keras.Model`.
        optimizer: The optimizer, or `None` for `model.optimizer`.

    Returns:
        A `MeasuredOptimizer` or an `FDRSGD`.
    """
    found = _optimizer_of(model, optimizer)
    if isinstance(found, FDRSGD):
        return found
    return MeasuredOptimizer(found) if _has_record(found) else measure(model, optimizer)


def is_measured(
    model: keras.Model, optimizer: keras.optimizers.Optimizer | None = None
) -> bool:
    """Whether the steps of a model are measured already.

    Args:
        model: A compiled `keras.Model`.
        optimizer: The optimizer, or `None` for `model.optimizer`.
    """
    found = _optimizer_of(model, optimizer)
    return isinstance(found, FDRSGD) or _has_record(found)


def _has_record(optimizer: keras.optimizers.Optimizer) -> bool:
    return isinstance(getattr(optimizer, "observables", None), Displacements)


def _optimizer_of(
    model: keras.Model, optimizer: keras.optimizers.Optimizer | None
) -> keras.optimizers.Optimizer:
    check_model(model)
    chosen = getattr(model, "optimizer", None) if optimizer is None else optimizer
    if optimizer is None:
        _check_single(model, chosen)
    elif not isinstance(chosen, keras.optimizers.Optimizer):
        raise TypeError(
            "`optimizer` must be a `keras.optimizers.Optimizer`. "
            f"Received: optimizer={optimizer!r}"
        )
    return getattr(chosen, "inner_optimizer", chosen)


def _check_single(
    model: keras.Model, compiled: keras.optimizers.Optimizer | None
) -> None:
    """Refuses a model whose optimizer is not known: it has none, or several."""
    is_optimizer = keras.optimizers.Optimizer
    others = {
        name: value
        for name, value in vars(model).items()
        if isinstance(value, is_optimizer) and value is not compiled
    }
    if isinstance(compiled, is_optimizer) and not others:
        return
    # A GAN has an optimizer for each of its networks. If `compile` is called without an
    # optimizer, Keras adds one more, which nothing uses.
    found = [f"{name} ({type(value).__name__})" for name, value in others.items()]
    if isinstance(compiled, is_optimizer):
        found.append(f"model.optimizer ({type(compiled).__name__})")
    raise ValueError(
        "The model must be compiled with the optimizer to measure. If it has several, "
        "choose one, as in `FDRCallback(optimizer=model.d_optimizer)` or "
        "`measure(model, model.d_optimizer)`. Received: "
        f"{', '.join(found) or 'no optimizer'} in model={model.name!r}"
    )


def _told_of_losses(
    model: keras.Model, optimizer: keras.optimizers.Optimizer | None
) -> keras.optimizers.Optimizer:
    """The optimizer whose `scale_loss` the model calls."""
    outer = getattr(model, "optimizer", None)
    if optimizer is None or optimizer in getattr(outer, "optimizers", []):
        return outer
    return optimizer


def _check_options(
    observables: StoredRecord, options: dict[str, Any], origin: str
) -> None:
    defaults = {"center": None, "capacity": 1024, "per_variable": False}
    for name, value in options.items():
        theirs = getattr(observables, name, None)
        if value != theirs and value != defaults.get(name):
            raise ValueError(
                f"The options of a record cannot change once it is made. `{name}` is "
                f"{theirs!r} since {origin}. Received: {name}={value!r}"
            )
