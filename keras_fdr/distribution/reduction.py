"""The share of each replica in a step, and the gradient of the global batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf


@dataclass(frozen=True)
class ReplicaStep:
    """What is known about one step on one replica while it is traced.

    Args:
        loss: The loss, divided by the number of replicas. `None` if unknown.
        announced: Whether `mean_over` was called in this step, so that `examples=None`
            is deliberate.
        examples: The count that the loss is a mean over. `None` if the losses of the
            replicas add up.
        reduced: Whether gradients and loss already belong to the global batch.
    """

    loss: Any = None
    announced: bool = False
    examples: Any = None
    reduced: bool = False


class ReplicaSteps:
    """Carries what is known about a step from the loss to the update.

    Each replica has a separate place. Replicas are traced in turn, each up to the next
    point where all of them meet.
    """

    def __init__(self) -> None:
        self._steps: dict[int | None, ReplicaStep] = {}

    def put(self, **known: Any) -> None:
        """Adds to what is known about the step of this replica."""
        replica = _replica()
        self._steps[replica] = replace(self._steps.get(replica, ReplicaStep()), **known)

    def take(self) -> ReplicaStep:
        """Returns what `look` returns, and forgets it."""
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
    """Computes the gradients and the loss of the global batch.

    There are R replicas. Replica r has c_r examples, and its gradient g_r is 1/R times
    the gradient of its mean loss. So the gradient of the global batch is
    Σ_r (R c_r/Σc) g_r, and the same holds for the loss. The terms of regularisers are
    equal on all replicas. They stay right, because the mean of the weights R c_r/Σc is
    1.

    Args:
        gradients: List of the gradients of this replica, `None` where there is none.
            With several replicas they are dense.
        step: The `ReplicaStep` of this replica.

    Returns:
        `(gradients, loss)`.

    Raises:
        ValueError: If the shares of several replicas are not known.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas == 1 or step.reduced:
        return gradients, step.loss
    if not step.announced:
        raise ValueError(
            "Under several replicas `FDRSGD` must know how many examples the loss of "
            "each is a mean over, because shares can be unequal. In `fit`, add "
            "`FDRCallback()` (with `factor=None` it only measures). In a custom loop, "
            "call `optimizer.mean_over(examples)` before `apply`. Received: a step on "
            f"{replicas} replicas"
        )
    context = tf.distribute.get_replica_context()
    unknown = tf.constant(float("nan"), tf.float64)
    loss = unknown if step.loss is None else tf.cast(step.loss, tf.float64)
    if step.examples is None:
        loss = context.all_reduce(tf.distribute.ReduceOp.SUM, loss)
    else:
        # This message needs no gradient, so it can travel while they are computed.
        share = tf.cast(step.examples, tf.float64)
        sums = tf.stack([share * loss, share])
        loss, total = tf.unstack(context.all_reduce(tf.distribute.ReduceOp.SUM, sums))
        loss = replicas * tf.math.divide_no_nan(loss, total)
        # If the whole batch is masked, only the regularisers are left.
        weight = tf.where(total > 0, replicas * share / total, 1.0)
        gradients = _weigh(gradients, weight)
    known = iter(add_over_replicas([g for g in gradients if g is not None]))
    return [None if g is None else next(known) for g in gradients], loss


def add_over_replicas(tensors: Sequence[Any]) -> list[Any]:
    """The sums of tensors over all replicas, to be called in replica context."""
    context = tf.distribute.get_replica_context()
    sums = [None] * len(tensors)
    # Workers send a list as one message, which must have one type. All workers must
    # send in the same order. A set could have another order in each process.
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
    # In the usual case shares are equal, and the gradients need no extra pass.
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
    # The number is unknown on TPUs, where one trace serves all replicas.
    return None if replica is None else int(replica)


def _is_usable(tensor: Any) -> bool:
    """Whether the current graph can use a tensor.

    It can use its own tensors and those of the graphs around it. For example, the
    branch of a `tf.cond` is a graph inside the graph of the step.
    """
    if not tf.is_symbolic_tensor(tensor):
        return True
    graph = tf.compat.v1.get_default_graph()
    while graph is not None and graph is not tensor.graph:
        graph = getattr(graph, "outer_graph", None)
    return graph is not None
