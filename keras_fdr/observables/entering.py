"""Begins a record with a step, or makes room in it for the step's row."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import tensorflow as tf

from keras_fdr import _compat

if TYPE_CHECKING:
    from keras_fdr.observables.stored_record import StoredRecord

Moment = Callable[[], tf.Tensor]


def enter(
    record: "StoredRecord",
    eta: tf.Tensor,
    theta: Sequence[tf.Tensor],
    moment: Moment | None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Makes room for the row of a step, or begins a record with it.

    A record begins after `reset`, and when the rate changes after several steps at one
    rate. A rate that changes at each step, as that of most schedules does, does not
    begin a record each time. Its rows are averaged.

    Args:
        record: What holds the rows.
        eta: Scalar float64 tensor, η(t).
        theta: List of the weights before the step.
        moment: Function without arguments that gives η₀ Q for θ_c = 0, a scalar float64
            tensor; `None` where it is not known.

    Returns:
        `(weight, change)`: η(t)/η₀, by which a row is multiplied, and η(t) − η(t−1),
        which is 0 in the first step of a record.
    """
    unit = tf.convert_to_tensor(record.learning_rate)
    newest = record.ledger.newest()
    full = record.blocks.is_full()

    def settle() -> tf.Tensor:
        deviation = eta - unit
        known = tf.math.is_finite(unit)
        changed = tf.logical_and(known, tf.not_equal(deviation, newest[0]))
        # The rate must change after several steps at one rate. In a schedule, the step
        # before has changed it too.
        lonely = tf.logical_and(tf.equal(newest[1], 0), record.blocks.steps > 1)
        from_rest = tf.logical_and(tf.equal(unit, 0), tf.not_equal(eta, 0))
        begins = tf.logical_or(
            tf.logical_or(tf.logical_not(known), from_rest),
            tf.logical_and(changed, lonely),
        )
        _rarely(begins, lambda: _begin(record, eta, theta, moment, changed))
        continues = tf.logical_not(begins)
        _rarely(tf.logical_and(continues, full), record.merge)

        def add() -> None:
            length = tf.convert_to_tensor(record.blocks.block_length)
            record.ledger.add(record.blocks.steps // length, deviation, changed)

        _rarely(continues, add)
        change = tf.where(begins, tf.zeros_like(eta), deviation - newest[0])
        weight = tf.math.divide_no_nan(eta, record.learning_rate)
        return tf.stack([weight, change])

    changes = tf.reduce_any(tf.not_equal(newest, 0))
    pending = tf.not_equal(eta, unit) | changes | full
    usual = tf.constant([1.0, 0.0], "float64")
    weight, change = tf.unstack(_rarely(pending, settle, usual))
    return weight, change


def _begin(
    record: "StoredRecord",
    eta: tf.Tensor,
    theta: Sequence[tf.Tensor],
    moment: Moment | None,
    changed: tf.Tensor,
) -> None:
    unit = tf.convert_to_tensor(record.learning_rate)
    # A record of steps at the rate 0 is not worth a warning.
    interrupted = tf.logical_and(record.blocks.steps > 0, tf.not_equal(unit, 0))
    record.restarts.assign_add(tf.cast(interrupted, "int64"))
    record.learning_rate.assign(eta)
    for center, weight in zip(record.theta_center, theta, strict=False):
        center.assign(tf.cast(weight, center.dtype))
    for sums in record.parts():
        sums.clear()
    record.seal_of_weights.assign(tf.zeros_like(record.seal_of_weights))
    record.begin_record()
    q = None
    if record.center is not None:
        q = tf.zeros_like(eta)
    elif moment is not None:
        q = tf.math.divide_no_nan(moment(), eta)
    record.ledger.begin(q, changed)


def _rarely(
    condition: tf.Tensor,
    branch: Callable[[], tf.Tensor | None],
    otherwise: tf.Tensor | None = None,
) -> tf.Tensor:
    """The result of `branch` if `condition` holds, otherwise the tensor `otherwise`."""
    value = tf.zeros(()) if otherwise is None else otherwise

    def taken() -> tf.Tensor:
        result = branch()
        return value if result is None else result

    if not _compat.xla_compiles():
        return tf.cond(condition, taken, lambda: value)
    # XLA would copy all that a `tf.cond` may change, here the whole record, in every
    # step. So it gets a loop that runs once or not at all.
    _, value = tf.while_loop(
        lambda pending, _: pending,
        lambda pending, _: (tf.zeros_like(pending), taken()),
        (condition, value),
    )
    return value
