"""The training step, with its state, as a SavedModel."""

import os
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_fdr import _compat
from keras_fdr.arguments import check_path
from keras_fdr.export import functions
from keras_fdr.export.signature import Signature, check_signature, default_signature
from keras_fdr.model_checks import check_structure
from keras_fdr.notices import notice
from keras_fdr.optimizer.lookup import measuring_optimizer
from keras_fdr.optimizer.sgd import FDRSGD
from keras_fdr.snapshot import State


def export_trainer(
    model: keras.Model,
    path: str | os.PathLike[str],
    batch_signature: Sequence[Any] | None = None,
) -> None:
    """Writes a model, its optimizer and its record as a SavedModel that can train.

    `tf.saved_model.load(path)` returns an object that resumes from the present state.
    It needs neither this package nor Keras. It has these functions, which are also
    among its `signatures`:

    - `predict(x)`: the predictions. This is also the serving default.
    - `train_step(x, y[, sample_weight])`: one measured step of `fit`. Returns the
      loss and metrics as `fit` shows them: averages since the beginning of the epoch.
    - `reset_metrics()`: begins an epoch. Returns the averages of the last one.
    - `observables()`: the record: `names`, `sums`, `steps`, `block_length` and
      `learning_rate` are the fields of `Record`. `restarts` counts how often a change
      of the learning rate ended a record. `full_batch_names`, `full_batch_sums`,
      `full_batch_steps` and `full_batch_block_length` are the record of the
      full-batch passes. With `FDRObservables(per_variable=True)` also
      `variable_names` and `variable_sums` of shape `(blocks, weights, 3)`: O_L, O_R
      and how many steps had a gradient.
    - `half_running_average()`: Ō(t), eq. (15), of every observable by its name.
    - `learning_rate()`: η.
    - `set_learning_rate(learning_rate)`: sets η and t = 0, as a cut of `FDRCallback`
      does. It is left out if the learning rate follows a schedule.
    - `reset_velocities()`: sets every velocity to 0 and t = 0.
    - `full_batch_add(x, y[, sample_weight])`: adds examples to a full-batch pass.
    - `full_batch_gradient()`: ends the pass. Returns ∇f of the examples as
      `gradient_0`, `gradient_1`, … in the order of `weights`, with `examples`, f,
      |∇f|², v·∇f and O_FB, the left side of FDR2 (eq. 18). They also go into the
      full-batch record. It is left out, with a warning, if f is not a mean over
      examples (see `FullBatchPass`).

    Its attributes `weights` (θ), `model_variables` and `optimizer_variables` are lists
    of variables in the order of Keras. A `tf.train.Checkpoint` of the object saves and
    restores all of its state. Cuts of the learning rate by `set_learning_rate` are not
    in `FDRCallback.cuts`.

    Example:

    >>> import keras, numpy as np, tempfile, tensorflow as tf
    >>> from keras_fdr import FDRSGD
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile(FDRSGD(learning_rate=0.05, momentum=0.9, l2=0.01), loss="mse")
    >>> with tempfile.TemporaryDirectory() as path:
    ...     export_trainer(model, path)
    ...     trainer = tf.saved_model.load(path)
    >>> for _ in range(4):
    ...     logs = trainer.train_step(np.ones((8, 3)), np.ones((8, 1)))
    >>> int(trainer.observables()["steps"])
    4
    >>> average = trainer.half_running_average()
    >>> if abs(average["dissipation"] / average["fluctuation"] - 1) < 0.01:
    ...     _ = trainer.set_learning_rate(0.9 * trainer.learning_rate())

    Args:
        model: A `keras.Model`, compiled with an `FDRSGD`. With a `batch_signature` it
            need not be built yet.
        path: Folder to write. An earlier SavedModel there is replaced.
        batch_signature: `(x, y)` or `(x, y, sample_weight)` of (nested)
            `tf.TensorSpec` that describes a batch, such as `dataset.element_spec`. The
            functions take a `sample_weight` only if it is here. Defaults to `None`:
            the inputs of the model, and labels of the shapes of its outputs (int64
            without the last axis for sparse categorical cross-entropy), with any
            number of examples.

    Raises:
        TypeError: If `model` is not a `keras.Model`, `path` is not a path, or
            `batch_signature` is not as described above.
        ValueError: If the model has another optimizer, a learning rate that is a
            Python function, weights on several devices, or weights that were frozen
            after compiling. If `path` is empty. If `batch_signature` is needed, or does
            not have the structure of the model.

    Reference:
        [Yaida, 2019](https://arxiv.org/abs/1810.00004), sections 3.1 to 3.3.
    """
    check_path("path", path, "folder")
    optimizer = measuring_optimizer(model, "export_trainer")
    schedule = _check_learning_rate(optimizer)
    if batch_signature is None:
        batch_signature = default_signature(model)
    signature = check_signature(batch_signature)
    check_structure(model, signature, "batch_signature")
    _build(model, optimizer, signature)

    trainer, signatures = _trainer(
        model,
        optimizer,
        {
            "predict": (lambda x: model.predict_step((x,)), signature[:1]),
            **functions.training(model, signature),
            **functions.reading(optimizer),
            **functions.steering(optimizer, settable=schedule is None),
            **functions.full_batch(model, optimizer, signature),
        },
    )
    observables = optimizer.observables
    # The file starts at the beginning of an epoch. The model itself does not change.
    state = State(
        [*model.metrics_variables, *observables.variables], model.distribute_strategy
    )
    try:
        model.reset_metrics()
        if not optimizer.weights_unchanged():
            observables.reset()
            notice(
                "The weights were changed since the record was left (by `set_weights`, "
                "`load_weights`, or the average that `use_ema` puts in their place "
                "when training ends): the exported record starts at t = 0."
            )
        tf.saved_model.save(trainer, os.fspath(path), signatures=signatures)
    finally:
        state.restore()


def _check_learning_rate(
    optimizer: FDRSGD,
) -> keras.optimizers.schedules.LearningRateSchedule | None:
    """The learning-rate schedule, or `None`."""
    schedule = _compat.learning_rate_schedule(optimizer)
    kind = keras.optimizers.schedules.LearningRateSchedule
    if schedule is not None and not isinstance(schedule, kind):
        raise ValueError(
            "The learning rate must be a number or a `LearningRateSchedule`. A Python "
            f"function cannot be exported. Received: learning_rate={schedule}"
        )
    return schedule


def _build(model: keras.Model, optimizer: FDRSGD, signature: Signature) -> None:
    _compat.build(model, signature)
    if not model.optimizer.built:
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
    if optimizer is not model.optimizer:
        _compat.open_loss_scaling(model.optimizer)
    weights = optimizer.weights
    if any(isinstance(w.value, tf.distribute.DistributedValues) for w in weights):
        raise ValueError(
            "The weights must be on one device. Create the model without a strategy "
            "and load them there. Received: weights under "
            f"{type(model.distribute_strategy).__name__}"
        )
    trains = {id(w) for w in model.trainable_variables}
    if trains != {id(w) for w in weights}:
        raise ValueError(
            "The model must be compiled after layers are frozen or unfrozen. Otherwise "
            f"`fit` does not notice. Received: {len(trains)} trainable weights, and "
            f"an optimizer of {len(weights)}"
        )


def _trainer(
    model: keras.Model, optimizer: FDRSGD, parts: functions.Functions
) -> tuple[tf.Module, dict[str, Any]]:
    """Creates the object to save, and its signatures.

    It has only functions, variables and tables of TensorFlow, and no object of Keras.
    `keras.export.ExportArchive` would write each variable twice.
    """
    trainer = tf.Module()
    endpoints = {}
    for name, (function, arguments) in parts.items():
        compiled = tf.function(function, input_signature=arguments, autograph=False)
        setattr(trainer, name, compiled)
        with _compat.traced_for_saving():
            endpoints[name] = compiled.get_concrete_function()
    trainer.model_variables = [v.value for v in model.variables]
    trainer.weights = [v.value for v in optimizer.weights]
    trainer.optimizer_variables = [v.value for v in model.optimizer.variables]
    # Checkpoints depend on the order of this list. `ConcreteFunction.variables` has no
    # fixed order, but the tensors that a trace captures have the order of the trace.
    used: dict = {}
    for endpoint in endpoints.values():
        order = {id(t): i for i, t in enumerate(endpoint.captured_inputs)}
        for variable in sorted(endpoint.variables, key=lambda v: order[id(v.handle)]):
            used.setdefault(variable.ref(), variable)
    trainer.state = list(used.values())
    tables = tf.saved_model.experimental.TrackableResource
    trainer.tables = [
        part
        for part in tf.train.TrackableView(model).descendants()
        if isinstance(part, tables)
    ]
    return trainer, {**endpoints, "serving_default": endpoints["predict"]}
