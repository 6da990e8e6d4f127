"""What several workers must agree on."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf


def has_several_workers(strategy: tf.distribute.Strategy) -> bool:
    """Whether replicas run in other processes too."""
    resolver = strategy.cluster_resolver
    workers = resolver.cluster_spec().as_dict() if resolver else {}
    return sum(len(workers.get(job, ())) for job in ("chief", "worker")) > 1


def sum_over_replicas(strategy: tf.distribute.Strategy, number: int) -> int:
    """The sum of each worker's integer over all replicas; waits for all workers."""
    sums = _adder(strategy)(tf.constant(number, tf.int64))
    return int(strategy.experimental_local_results(sums)[0])


def true_on_all(strategy: tf.distribute.Strategy, condition: bool) -> bool:
    """Whether `condition` is true on each of the workers; waits for all of them."""
    if not has_several_workers(strategy):
        return condition
    holding = sum_over_replicas(strategy, int(condition))
    return holding == strategy.num_replicas_in_sync


@functools.cache
def _adder(strategy: tf.distribute.Strategy) -> Callable[[Any], Any]:
    def add_up(own: Any) -> Any:
        context = tf.distribute.get_replica_context()
        # On the replica's own device.
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(own))

    return tf.function(lambda own: strategy.run(add_up, args=(own,)), autograph=False)
