"""The share of each replica in the loss of a global batch, inside `fit`."""

from typing import Any

import keras
import tensorflow as tf

from keras_fdr import _compat
from keras_fdr.model_checks import check_own_loss


def announce_shares(model: keras.Model, optimizer: keras.Optimizer) -> None:
    """Makes a model tell its optimizer how many examples each replica's loss covers.

    Keras adds the mean losses of the replicas with equal weights. That is the mean over
    the global batch only if all replicas have equal shares. Shares are unequal if the
    batch does not divide by the number of replicas, or if there are masks. The
    optimizer corrects the weights, see `FDRSGD.mean_over`.

    Args:
        model: A compiled `keras.Model`.
        optimizer: Its `FDRSGD`.

    Raises:
        ValueError: If the model computes its loss itself. When the step is traced, if
            the losses cannot be averaged exactly over unequal replicas.
    """
    if model.distribute_strategy.num_replicas_in_sync == 1:
        return
    check_own_loss(model)

    def compute_loss(
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        arguments = x, y, y_pred, sample_weight, training
        if not training:
            return keras.Model.compute_loss(model, *arguments)
        with _compat.parts_of_losses(model) as parts:
            loss = keras.Model.compute_loss(model, *arguments)
        optimizer.mean_over(_share(parts, _compat.activity_losses(model), x))
        return loss

    # This method is public. Only here does `train_step` have labels and predictions.
    model.compute_loss = compute_loss


def _share(parts: list[_compat.LossPart], activity_losses: list[Any], x: Any) -> Any:
    counts = [part.per_example for part in parts]
    if all(counts):
        return tf.shape(tf.nest.flatten(x)[0])[0]
    if len(parts) == 1 and not activity_losses:
        return parts[0].denominator
    names = [part.name for part in parts if not part.per_example]
    raise ValueError(
        "Under several replicas all losses must be means over the same count. Losses "
        'of masked or ragged predictions, and those with `reduction="mean_with_'
        'sample_weight"`, are means over separate counts. They cannot be averaged '
        "exactly over unequal replicas together with other losses. "
        f"Received: {len(parts)} losses, of which {names} have separate counts, "
        f"and {len(activity_losses)} activity regularisers"
    )
