"""Attaches the record to one Keras optimizer, whose class stays what it is."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_fdr import _compat
from keras_fdr.distribution.reduction import ReplicaSteps
from keras_fdr.model_checks import refuse_assignment
from keras_fdr.observables.displacement import Displacements
from keras_fdr.optimizer.accumulated_loss import (
    AccumulatedLoss,
    add_loss,
    mean_loss,
)
from keras_fdr.optimizer.cut_table import CutTable
from keras_fdr.optimizer.decay_state import DecayState
from keras_fdr.optimizer.resume_point import ResumePoint
from keras_fdr.sparse_rows import can_gather, read_rows, touched_rows

# A `keras.optimizers.Optimizer`, with the attributes that `attach` adds.
Optimizer = Any


def attach(
    model: keras.Model,
    outer: Optimizer,
    optimizer: Optimizer,
    options: dict[str, Any],
) -> None:
    """Has every `apply` of an optimizer measured.

    Args:
        model: The compiled `keras.Model`.
        outer: The optimizer whose `scale_loss` the model calls: `optimizer`, or the
            `LossScaleOptimizer` or `MultiOptimizer` around it.
        optimizer: The `keras.optimizers.Optimizer`.
        options: The arguments of its `Displacements`.
    """
    types = {"float32", *(w.dtype for w in model.trainable_weights)}
    dtype = "float64" if "float64" in types else "float32"
    with model.distribute_strategy.scope():
        optimizer.observables = Displacements(
            name="observables", dtype=dtype, **options
        )
        optimizer.cut_table = CutTable(name="cut_table")
        optimizer.final_decay = DecayState(name="final_decay")
        optimizer.progress = ResumePoint(name="progress")
        if _accumulates(optimizer):
            optimizer.accumulated_loss = AccumulatedLoss(name="accumulated_loss")
    optimizer.cut_table.may_be_missing = optimizer.progress.may_be_missing = True
    steps, scan = ReplicaSteps(), _compat.AssignmentScan()
    stock_apply, stock_scale_loss = optimizer.apply, outer.scale_loss

    def scale_loss(loss: Any) -> Any:
        steps.put(loss=loss)
        return stock_scale_loss(loss)

    def apply(grads: Sequence[Any], trainable_variables: Any = None) -> None:
        grads = list(grads)
        if not grads:  # Keras does nothing then.
            return stock_apply(grads, trainable_variables)
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            if not optimizer.built:
                optimizer.build(trainable_variables)
        _build(optimizer)
        refuse_assignment(scan.find(measured_weights(optimizer)))
        variables = trainable_variables
        if variables is None:
            variables = _compat.built_weights(optimizer)
        try:
            loss = steps.take().loss
            present = [t for t in [*grads, loss] if tf.is_tensor(t)]
            # At the end of data of unknown length, Keras starts a step without a batch,
            # which fails. These dependencies make it fail before it changes anything.
            with tf.control_dependencies(present):
                _measured_step(
                    optimizer,
                    lambda: stock_apply(grads, trainable_variables),
                    # If there are too few gradients, Keras raises a clearer error than
                    # `zip`.
                    dict(zip(map(id, variables), grads, strict=False)),
                    loss,
                )
        finally:
            steps.take()
        scan.end_step()
        return None

    # Only the methods of this instance are replaced. Its class stays the same, and so
    # do the files that Keras writes.
    optimizer.apply, outer.scale_loss = apply, scale_loss
    with model.distribute_strategy.scope():
        _build(optimizer)
    model.train_function = None


def measured_weights(optimizer: Optimizer) -> list[keras.Variable]:
    """The weights that an optimizer was built for and that its steps move."""
    weights = _compat.built_weights(optimizer)
    # Keras overwrites these, such as the scales of float8 layers, with their gradients.
    return [w for w in weights if not getattr(w, "overwrite_with_gradient", False)]


def _build(optimizer: Optimizer) -> None:
    observables = optimizer.observables
    if observables.built or not optimizer.built:
        return
    weights = measured_weights(optimizer)
    # `fit` builds inside the trace of the first step.
    with _compat.variables_outside_of_traces():
        observables.build([w.shape for w in weights])
        if not observables.has_names():
            observables.name_weights([getattr(w, "path", w.name) for w in weights])
        optimizer.cut_table.build()
        optimizer.progress.build()
        if _accumulates(optimizer):
            optimizer.accumulated_loss.build()


def _accumulates(optimizer: Optimizer) -> int:
    """How many batches make a step, or 0 if each batch is a step."""
    return getattr(optimizer, "gradient_accumulation_steps", None) or 0


def _measured_step(
    optimizer: Optimizer,
    step: Callable[[], None],
    gradients: dict[int, Any],
    loss: Any,
) -> None:
    """One call of the optimizer's own `apply`, and the row of what it did."""
    weights = measured_weights(optimizer)
    rows = _moving_rows(optimizer, weights, gradients)
    eta = tf.constant(1.0)
    if not hasattr(optimizer, "optimizers"):
        eta = tf.convert_to_tensor(optimizer.learning_rate)
    count = tf.convert_to_tensor(optimizer.iterations)
    before = [read_rows(w.value, i) for w, i in zip(weights, rows, strict=True)]
    step()
    # With accumulated gradients only some calls are steps.
    count_of_batches = _accumulates(optimizer)
    stepped = tf.not_equal(tf.convert_to_tensor(optimizer.iterations), count)
    whole = all(indices is None for indices in rows)

    def on_device(before: Any, loss: Any) -> None:
        after = [read_rows(w.value, i) for w, i in zip(weights, rows, strict=True)]

        def add(loss: Any) -> None:
            optimizer.observables(before, after, eta, loss=loss, whole=whole)

        if count_of_batches:
            total = optimizer.accumulated_loss.total
            keras.ops.cond(
                stepped,
                lambda: add(mean_loss(total, loss, count_of_batches)),
                lambda: add_loss(total, loss),
            )
        else:
            add(loss)

    def on_each_device(strategy: Any, before: Any, loss: Any) -> None:
        strategy.extended.update(
            weights[0].value,
            lambda _, *known: on_device(*known),
            args=(before, loss),
            group=False,
        )

    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        on_device(before, loss)
        return
    unknown = tf.constant(float("nan"), "float64")
    context = tf.distribute.get_replica_context()
    loss = context.all_reduce(
        tf.distribute.ReduceOp.SUM,
        unknown if loss is None else tf.cast(loss, "float64"),
    )
    _compat.merge_call(on_each_device, before, loss)


def _moving_rows(
    optimizer: Optimizer, weights: list[keras.Variable], gradients: dict[int, Any]
) -> list[Any]:
    """The rows of each weight that the step moves, or `None` if it may move all.

    An embedding gets the gradients of few of its rows. Plain SGD and Adagrad then move
    only these, and there is no need to read the others.
    """
    kind = type(optimizer)
    plain = kind is keras.optimizers.Adagrad or (
        kind is keras.optimizers.SGD and not optimizer.momentum
    )
    moves_all = (
        not plain
        or optimizer.weight_decay
        or optimizer.ema_overwrite_frequency
        or optimizer.gradient_accumulation_steps
        or optimizer.observables.center is not None
        or not can_gather()
    )
    rows: list[Any] = []
    for weight in weights:
        if moves_all or weight.constraint is not None:
            rows.append(None)
        else:
            rows.append(touched_rows(gradients.get(id(weight))))
    return rows
