"""The other callbacks of a `fit`, and its arguments."""

import inspect
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter


class FitCall(NamedTuple):
    """The call of `fit` in which a callback runs."""

    callbacks: list
    """All callbacks of the list, in their order. Empty if there is no list."""

    arguments: dict[str, Any]
    """The arguments of `fit`. Empty if something else called the callback."""


def fit_call(callback: keras.callbacks.Callback, model: keras.Model) -> FitCall:
    """Finds the list that calls a callback, and the `fit` that calls the list.

    Keras does not tell a callback about the other callbacks, or about `shuffle`. Both
    are in the frames of its callers, under public names: `CallbackList.callbacks` and
    the arguments of `Model.fit`. So this must be called from a method of the callback.

    Args:
        callback: The `keras.callbacks.Callback`.
        model: The `keras.Model` that trains.

    Returns:
        A `FitCall`.
    """
    callbacks: list = []
    frame = inspect.currentframe()
    while frame is not None:
        local = frame.f_locals
        owner = local.get("self")
        if isinstance(owner, keras.callbacks.CallbackList):
            if callback in owner.callbacks:
                callbacks = list(owner.callbacks)
        elif owner is model and frame.f_code.co_name == "fit":
            return FitCall(callbacks, local)
        frame = frame.f_back
    return FitCall(callbacks, {})


def batch_spec(arguments: dict[str, Any]) -> Any:
    """What the batches of a `fit` are, as `tf.TensorSpec`; `None` where unknown.

    Args:
        arguments: `FitCall.arguments`, the local names of `fit`. Its iterator exists
            before training begins. It describes the batches of any kind of data.
    """
    iterator = arguments.get("epoch_iterator")
    return None if iterator is None else iterator._distributed_dataset.element_spec


def has_sample_weight(arguments: dict[str, Any]) -> bool:
    """Whether the batches of a `fit` hold weights, its `class_weight` among them.

    Args:
        arguments: `FitCall.arguments`.
    """
    spec = batch_spec(arguments)
    weights = spec[2:] if isinstance(spec, tuple) else ()
    return any(
        getattr(part, "dtype", tf.variant) != tf.variant
        for part in tf.nest.flatten(weights, expand_composites=True)
    )


def shuffles_arrays(arguments: dict[str, Any]) -> bool:
    """Whether Keras shuffles the data of a `fit` itself, which it does with arrays.

    Args:
        arguments: `FitCall.arguments`, the local names of `fit`.
    """
    iterator = arguments.get("epoch_iterator")
    adapter = getattr(iterator, "data_adapter", None)
    return isinstance(adapter, ArrayDataAdapter) and bool(arguments.get("shuffle"))


def begins_iterator(arguments: dict[str, Any]) -> bool:
    """Whether the epoch of a `fit` that begins gets a new iterator over the data.

    Args:
        arguments: `FitCall.arguments`, the local names of `fit`.
    """
    iterator = arguments.get("epoch_iterator")
    if iterator is None:
        return False
    first = arguments.get("epoch") == arguments.get("initial_epoch")
    return first or not iterator.steps_per_epoch


def backup_files(
    backup: keras.callbacks.BackupAndRestore,
) -> tuple[str, str, str, str]:
    """The four files of a `BackupAndRestore`: weights and epoch, newest and previous.

    Its public attributes name only the folder.
    """
    return (
        backup._weights_path,
        backup._training_metadata_path,
        backup._prev_weights_path,
        backup._prev_training_metadata_path,
    )


def has_seeds(model: keras.Model) -> bool:
    """Whether layers draw random numbers from separate seeds, as dropout does.

    The seeds are variables, but the files of Keras leave them out.
    """
    return any(layer._seed_generators for layer in model._flatten_layers())
