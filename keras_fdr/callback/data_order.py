"""The order of the batches that `fit` trains on."""

import keras

from keras_fdr import _compat
from keras_fdr.batches import set_position
from keras_fdr.measured import Measured


def set_order(callback: keras.callbacks.Callback, optimizer: Measured) -> None:
    """Gives a dataset of `shuffled_batches` the order of the epoch that begins.

    To be called from `FDRCallback.on_epoch_begin`.

    Args:
        callback: The `FDRCallback`.
        optimizer: The optimizer that counts the steps.
    """
    arguments = _compat.fit_call(callback, callback.model).arguments
    # With `steps_per_epoch` the iterator of the last epoch is still in use. It counts
    # the epochs of the data without our help.
    if _compat.begins_iterator(arguments):
        # The first variable of Keras counts batches. `iterations` would count groups of
        # accumulated batches.
        steps = int(optimizer.variables[0].numpy())
        set_position(arguments.get("x"), steps)


def repeated_order(callback: keras.callbacks.Callback) -> str | None:
    """Looks for arrays that a seeded `fit` does not reshuffle.

    To be called from `FDRCallback.on_train_begin`.

    Args:
        callback: The `FDRCallback`.

    Returns:
        String, what was found, why it matters and what to do; `None` if nothing was
        found.
    """
    arguments = _compat.fit_call(callback, callback.model).arguments
    epochs = callback.params.get("epochs", 1) - arguments.get("initial_epoch", 0)
    batches = callback.params.get("steps") or 0
    repeats = (
        _compat.shuffles_arrays(arguments)
        and _compat.random_seed() is not None
        and epochs > 1
        and batches > 1
    )
    if not repeats:
        return None
    return (
        "`fit` will train on the same batches in the same order in every epoch, since "
        "a random seed is set (`keras.utils.set_random_seed`) and Keras then shuffles "
        "arrays in the same way each time. The noise of the gradient repeats instead "
        "of being random, so the ratio jumps from epoch to epoch and the fluctuation "
        "is wrong, by 19% in one example. Pass `keras_fdr.shuffled_batches(x, y, "
        "batch_size, seed)` to `fit` instead of the arrays."
    )
