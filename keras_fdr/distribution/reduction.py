"""What each replica knows of its share of a step, and the gradient they add up to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf


@dataclass(frozen=True)
class ReplicaStep:
    """What is known of one step on one replica while it is traced.

    Args:
        loss: the loss, 1/R of its own under R replicas; `None` where unknown.
        announced: whether `examples` is meant.
        examples: what the loss is a mean over, or `None` if the losses of the
            replicas add up.
        reduced: whether gradients and loss are of the global batch already.
    """

    loss: Any = None
    announced: bool = False
    examples: Any = None
    reduced: bool = False


class ReplicaSteps:
    """Carries what is known of a step from the loss to the update.

    Replicas are traced in turn, each up to the next point where they meet, so each has
    a place of its own.
    """

    def __init__(self) -> None:
        self._steps: dict[int | None, ReplicaStep] = {}

    def put(self, **known: Any) -> None:
        """Adds to what is known of this replica's step."""
        replica = _replica()
        self._steps[replica] = replace(self._steps.get(replica, ReplicaStep()), **known)

    def take(self) -> ReplicaStep:
        """The `ReplicaStep` of this replica as `look` gives it, which is forgotten."""
        step = self.look()
        self._steps.pop(_replica(), None)
        return step

    def look(self) -> ReplicaStep:
        """The `ReplicaStep` of this replica.

        Tensors that the current graph cannot use are left out.
        """
        step = self._steps.get(_replica(), ReplicaStep())
        if not _is_usable(step.loss):
            step = replace(step, loss=None)
        if not _is_usable(step.examples):
            step = replace(step, examples=None, announced=False)
        return step


def reduce_over_replicas(
    gradients: list[Any], step: ReplicaStep
) -> tuple[list[Any], Any]:
    """The dense gradients and the loss of the global batch.

    Of R replicas each knows 1/R of the mean over its own c_r examples, so the gradient
    of the global batch is Σ_r (R c_r/Σc) g_r, and the same holds for the loss.
    Regularisers are the same on each replica, and the weights' mean is 1.

    Args:
        gradients: list of this replica's gradients, `None` where there is none.
        step: this replica's `ReplicaStep`.

    Returns:
        `(gradients, loss)`.

    Raises:
        ValueError: If the shares of several replicas are not known.
    """
    # Embeddings deliver `IndexedSlices`.
    gradients = [None if g is None else tf.convert_to_tensor(g) for g in gradients]
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas == 1 or step.reduced:
        return gradients, step.loss
    if not step.announced:
        raise ValueError(
            "Under several replicas `FDRSGD` must know what the loss of each is a mean "
            "over, since shares can be unequal: in `fit`, add `FDRCallback()` (with "
            "`factor=None` it only measures); in a loop of your own, call "
            "`optimizer.mean_over(examples)` before `apply`. Received: a step on "
            f"{replicas} replicas"
        )
    context = tf.distribute.get_replica_context()
    unknown = tf.constant(float("nan"), tf.float64)
    loss = unknown if step.loss is None else tf.cast(step.loss, tf.float64)
    if step.examples is None:
        loss = context.all_reduce(tf.distribute.ReduceOp.SUM, loss)
    else:
        # Needs no gradient, so it can travel while the gradients are computed.
        share = tf.cast(step.examples, tf.float64)
        sums = tf.stack([share * loss, share])
        loss, total = tf.unstack(context.all_reduce(tf.distribute.ReduceOp.SUM, sums))
        loss = replicas * tf.math.divide_no_nan(loss, total)
        # A batch that is masked as a whole leaves the regularisers.
        weight = tf.where(total > 0, replicas * share / total, 1.0)
        gradients = _weigh(gradients, weight)
    known = iter(add_over_replicas([g for g in gradients if g is not None]))
    return [None if g is None else next(known) for g in gradients], loss


def add_over_replicas(tensors: Sequence[Any]) -> list[Any]:
    """In replica context: the sum of each tensor over all replicas, as a list."""
    context = tf.distribute.get_replica_context()
    sums = [None] * len(tensors)
    # Workers send a list as one message, which must have one type. All must send in the
    # same order: a set would have another in each process.
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        chosen = [i for i, tensor in enumerate(tensors) if tensor.dtype == dtype]
        total = context.all_reduce(
            tf.distribute.ReduceOp.SUM, [tensors[i] for i in chosen]
        )
        for i, value in zip(chosen, total, strict=True):
            sums[i] = value
    return sums


def _weigh(gradients: list[Any], weight: Any) -> list[Any]:
    known = [g for g in gradients if g is not None]
    # Equal shares, the usual case, need no pass over the gradients.
    known = tf.cond(
        tf.equal(weight, 1),
        lambda: [tf.identity(g) for g in known],
        lambda: [g * tf.cast(weight, g.dtype) for g in known],
    )
    known = iter(known)
    return [None if g is None else next(known) for g in gradients]


def _replica() -> int | None:
    context = tf.distribute.get_replica_context()
    if context is None:
        return None
    replica = tf.get_static_value(context.replica_id_in_sync_group)
    # Unknown on TPUs, where one trace serves all replicas.
    return None if replica is None else int(replica)


def _is_usable(tensor: Any) -> bool:
    """Whether it is no tensor of a graph other than the current one and those around.

    The branch of a `tf.cond` is a graph inside the step's graph.
    """
    if not tf.is_symbolic_tensor(tensor):
        return True
    graph = tf.compat.v1.get_default_graph()
    while graph is not None and graph is not tensor.graph:
        graph = getattr(graph, "outer_graph", None)
    return graph is not None
