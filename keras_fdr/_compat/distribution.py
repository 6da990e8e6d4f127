"""The methods of `fit` that fail under several replicas."""

import inspect
from typing import Any, NoReturn

import keras
import tensorflow as tf

# `keras_fdr.distribution` depends on these methods of `keras.Model`. Each has its
# parameters (`None` stands for any) and the names that it must use.
_PLACES = (
    ("_maybe_symbolic_build", ("iterator", "data_batch"), ("_symbolic_build",)),
    ("_symbolic_build", ("iterator", "data_batch"), ()),
    ("fit", None, ("_maybe_symbolic_build", "make_train_function", "train_function")),
    ("evaluate", None, ("_maybe_symbolic_build", "make_test_function")),
    ("train_on_batch", None, ("_maybe_symbolic_build", "make_train_function")),
    ("test_on_batch", None, ("_maybe_symbolic_build", "make_test_function")),
    ("make_train_function", ("force",), ("train_step",)),
    ("make_test_function", ("force",), ("test_step",)),
)


def check_trainer() -> None:
    """Checks that the methods to replace are those of the Keras known here.

    Raises:
        RuntimeError: If one is missing, has other parameters, or is no longer called.
    """
    for name, parameters, used in _PLACES:
        method = getattr(keras.Model, name, None)
        if method is None:
            _refuse(name, "there is no such method")
        method = inspect.unwrap(method)
        found = tuple(inspect.signature(method).parameters)[1:]
        if parameters is not None and found != parameters:
            _refuse(name, f"its parameters are {found}, not {parameters}")
        missing = set(used) - set(method.__code__.co_names)
        if missing:
            _refuse(name, f"it does not use {sorted(missing)}")


def _refuse(name: str, reason: str) -> NoReturn:
    raise RuntimeError(
        "`prepare_distributed` replaces methods of `keras.Model` that it must know, "
        "and this Keras has changed one. Use Keras 3.14 or 3.15, or a newer "
        "`keras_fdr`. "
        f"Received: Keras {keras.version()}, in which for `keras.Model.{name}` {reason}"
    )


def build_from_shapes(model: keras.Model) -> None:
    """Makes `fit` and `evaluate` build a model from the shapes of the first batch.

    Keras builds it from the mean of the replicas' shares. That mean exists only if the
    shares are equal and have numbers. Several workers cannot compute it at all (issue
    20585 of Keras). Only shapes and types are needed, and one replica knows them.
    """
    built_for = None

    def maybe_symbolic_build(iterator: Any = None, data_batch: Any = None) -> None:
        nonlocal built_for
        if built_for is model._compile_loss:
            return
        if iterator is not None:
            _, _, batches = next(iter(iterator))
            data_batch = next(batches)
        strategy = model.distribute_strategy
        with strategy.scope():
            model._symbolic_build(
                data_batch=keras.tree.map_structure(
                    lambda value: _spec(value, strategy), data_batch
                )
            )
        built_for = model._compile_loss

    model._maybe_symbolic_build = maybe_symbolic_build


def _spec(value: Any, strategy: tf.distribute.Strategy) -> Any:
    """The shape and type of the share of one replica, for any number of examples."""
    if value is None or isinstance(value, tf.experimental.Optional):
        return None
    share = strategy.experimental_local_results(value)[0]
    return tf.TensorSpec([None, *share.shape[1:]], share.dtype)
