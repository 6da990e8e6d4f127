"""Keras' `fit` under several replicas, where it trips over its own first batch."""

import inspect
from typing import NoReturn

import keras
import tensorflow as tf

# What `keras_fdr.distribution` rests on: the method of `keras.Model`, its parameters
# (None: any) and names that it must use.
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


def check_trainer():
    """Sees that the methods to be replaced are still those of the Keras known here.

    Raises:
        RuntimeError: If one has gone, has other parameters, or is not called any more.
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


def _refuse(name, reason) -> NoReturn:
    raise RuntimeError(
        "`prepare_distributed` replaces methods of `keras.Model` that it must know; "
        "this Keras has changed one. Use Keras 3.14 or 3.15, or a newer `keras_fdr`. "
        f"Received: Keras {keras.version()}, where of `keras.Model.{name}` {reason}"
    )


def build_from_shapes(model):
    """Has `fit` and `evaluate` build `model` from the shapes of the first batch.

    Keras builds it from the mean of the replicas' shares. That exists only where they
    are equal and of numbers, and several workers cannot compute it at all (the public
    issue 20585). Only shapes and types are needed, which one replica knows.
    """
    built_for = None

    def maybe_symbolic_build(iterator=None, data_batch=None):
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


def _spec(value, strategy):
    """The shape and type of one replica's share, of any number of examples."""
    if value is None or isinstance(value, tf.experimental.Optional):
        return None
    share = strategy.experimental_local_results(value)[0]
    return tf.TensorSpec([None, *share.shape[1:]], share.dtype)
