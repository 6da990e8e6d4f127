"""The other callbacks of a `fit`, and its arguments."""

import inspect
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter


class Surroundings(NamedTuple):
    """What a callback stands in."""

    callbacks: list
    """All callbacks of the list, in their order; empty where there is no list."""

    arguments: dict[str, Any]
    """The arguments of `fit`; empty where it was not `fit` that called."""


def surroundings(callback, model):
    """Finds the list that calls a callback, and the `fit` that calls the list.

    Keras tells a callback neither of its neighbours nor of `shuffle`. Both are in the
    frames below it, under public names: `CallbackList.callbacks` and the arguments of
    `Model.fit`. To be called from within a method of the callback.
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
            return Surroundings(callbacks, local)
        frame = frame.f_back
    return Surroundings(callbacks, {})


def has_sample_weight(arguments):
    """Whether the batches of a `fit` hold weights, its `class_weight` among them.

    Args:
        arguments: `Surroundings.arguments`, the local names of `fit`. Its iterator is
            there before training begins, and knows the batches of any kind of data.
    """
    iterator = arguments.get("epoch_iterator")
    if iterator is None:
        return False
    spec = iterator._distributed_dataset.element_spec
    weights = spec[2:] if isinstance(spec, tuple) else ()
    return any(
        getattr(part, "dtype", tf.variant) != tf.variant
        for part in tf.nest.flatten(weights, expand_composites=True)
    )


def shuffles_arrays(arguments):
    """Whether Keras shuffles the data of a `fit` itself, which it does with arrays.

    Args:
        arguments: `Surroundings.arguments`, the local names of `fit`.
    """
    iterator = arguments.get("epoch_iterator")
    adapter = getattr(iterator, "data_adapter", None)
    return isinstance(adapter, ArrayDataAdapter) and bool(arguments.get("shuffle"))


def begins_iterator(arguments):
    """Whether the epoch of a `fit` that begins gets a new iterator over the data.

    Args:
        arguments: `Surroundings.arguments`, the local names of `fit`.
    """
    iterator = arguments.get("epoch_iterator")
    if iterator is None:
        return False
    first = arguments.get("epoch") == arguments.get("initial_epoch")
    return first or not iterator.steps_per_epoch


def backup_files(backup):
    """The four files of a `BackupAndRestore`: weights and epoch, newest and previous.

    Its constructor gives the folder only.
    """
    return (
        backup._weights_path,
        backup._training_metadata_path,
        backup._prev_weights_path,
        backup._prev_training_metadata_path,
    )


def has_seeds(model):
    """Whether layers draw random numbers from seeds of their own, as dropout does.

    The seeds are variables, but Keras' files leave them out.
    """
    return any(layer._seed_generators for layer in model._flatten_layers())
