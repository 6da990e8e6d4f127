"""The share of each replica in the loss of a global batch, inside `fit`."""

from typing import Any

import keras
import tensorflow as tf

from keras_fdr import _compat
from keras_fdr.model_checks import check_own_loss


def announce_shares(model: keras.Model, optimizer: keras.Optimizer) -> None:
    """Has `model` tell its optimizer in each step what its replica's loss is a mean of.

    Keras adds the replicas' means with equal weights, which is the mean over the global
    batch only where their shares are equal (not where the batch does not divide by the
    replicas, nor with masks). The optimizer puts the weights right; see
    `FDRSGD.mean_over`.

    Args:
        model: A compiled `keras.Model`.
        optimizer: Its `FDRSGD`.

    Raises:
        ValueError: If the model computes its loss itself; when the step is traced, if
            no weights make the replicas' losses that of the global batch.
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

    # Public, and the one place in `train_step` that sees labels and predictions.
    model.compute_loss = compute_loss


def _share(parts: list[_compat.LossPart], activity_losses: list[Any], x: Any) -> Any:
    counts = [part.per_example for part in parts]
    if all(counts):
        return tf.shape(tf.nest.flatten(x)[0])[0]
    if len(parts) == 1 and not activity_losses:
        return parts[0].denominator
    names = [part.name for part in parts if not part.per_example]
    raise ValueError(
        "Under several replicas all losses must be means over the same count: those of "
        "masked or ragged predictions, and of "
        '`reduction="mean_with_sample_weight"`, are means over counts of their own, '
        "and no weights of the replicas make all of them means over the global batch. "
        f"Received: {len(parts)} losses, of these {names} with counts of their own, "
        f"and {len(activity_losses)} activity regularisers"
    )
