"""`fit` and `evaluate` of Keras under several replicas and several workers."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_fdr import _compat
from keras_fdr.arguments import check_integer
from keras_fdr.distribution.reduction import add_over_replicas
from keras_fdr.distribution.workers import has_several_workers, sum_over_replicas
from keras_fdr.model_checks import check_compiled, check_model


def prepare_distributed(model: keras.Model) -> keras.Model:
    """Makes `fit` and `evaluate` of a compiled model work on many devices.

    Under a `tf.distribute` strategy, Keras 3 itself fails in three ways. This call
    repairs all of them, for this one model:

    - `MultiWorkerMirroredStrategy` does not train at all.
    - A first batch that does not divide by the number of replicas raises `AddN must
      have the same size`. The same happens in `evaluate` and with `validation_data`.
    - `steps_per_execution` above 1 raises `must feed a value for placeholder`.

    Losses and metrics in the logs are those of the global batches, for batches as well
    as epochs. They are bitwise equal on all workers. So a callback that stops training
    because of them stops all workers at once.

    Call it on every worker, after `compile` and before `fit`. Calling it again, or
    without a strategy, changes nothing.

    Example:

    >>> import keras, numpy as np, tensorflow as tf
    >>> import keras_fdr
    >>> strategy = tf.distribute.MirroredStrategy()
    >>> with strategy.scope():
    ...     model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    ...     model.compile(optimizer=keras_fdr.FDRSGD(0.05, l2=0.01), loss="mse")
    >>> model = keras_fdr.prepare_distributed(model)
    >>> x, y = np.ones((9, 3), "float32"), np.ones((9, 1), "float32")
    >>> callbacks = [keras_fdr.FDRCallback()]
    >>> history = model.fit(x, y, batch_size=9, verbose=0, callbacks=callbacks)

    Args:
        model: A compiled `keras.Model`, created in the scope of its strategy.

    Returns:
        The same model.

    Raises:
        TypeError: If `model` is not a `keras.Model`, or was compiled with
            `steps_per_execution="auto"`.
        ValueError: If it is not compiled, or if the workers have different random
            seeds. When `fit` begins, if the model overrides `train_step` or `test_step`
            and has `steps_per_execution` above 1.
        RuntimeError: If this version of Keras differs from those that are known here.
    """
    check_model(model)
    check_compiled(model)
    _steps_per_execution(model)
    strategy = model.distribute_strategy
    # This strategy takes other paths through Keras, even with a single worker.
    several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    if strategy.num_replicas_in_sync == 1 and not several:
        return model
    _compat.check_trainer()
    if has_several_workers(strategy):
        _check_seeds(strategy)
    _compat.build_from_shapes(model)

    def make_train_function(force: bool = False) -> Callable[..., Any]:
        if force or model.train_function is None:
            model.train_function = _function(model, "train_step")
        return model.train_function

    def make_test_function(force: bool = False) -> Callable[..., Any]:
        if force or model.test_function is None:
            model.test_function = _function(model, "test_step")
        return model.test_function

    # These methods are public and meant to be overridden.
    model.make_train_function = make_train_function
    model.make_test_function = make_test_function
    model.train_function = model.test_function = None
    return model


def check_execution(model: keras.Model) -> None:
    """Refuses settings with which Keras fails under several replicas.

    Raises:
        TypeError: If `steps_per_execution` is "auto".
        ValueError: If the model has `steps_per_execution` above 1 and is not prepared.
    """
    steps = _steps_per_execution(model)
    replicas = model.distribute_strategy.num_replicas_in_sync
    if steps > 1 and replicas > 1 and "make_train_function" not in vars(model):
        raise ValueError(
            "`steps_per_execution` above 1 fails in Keras under several replicas. Call "
            "`keras_fdr.prepare_distributed(model)` before `fit`, or use "
            "`steps_per_execution=1`. Received: "
            f"steps_per_execution={steps} on {replicas} replicas"
        )


def _steps_per_execution(model: keras.Model) -> int:
    # `compile` takes "auto", but Keras' TensorFlow backend fails at it in `fit`.
    return check_integer("steps_per_execution", model.steps_per_execution, 1)


def _function(model: keras.Model, step_name: str) -> Callable[..., Any]:
    """The function that `fit` calls with an iterator, to get logs of the next steps."""
    strategy = model.distribute_strategy
    steps = _steps_per_execution(model)
    own = getattr(type(model), step_name) is not getattr(keras.Model, step_name)
    if own and steps > 1:
        raise ValueError(
            f"`steps_per_execution` above 1 needs Keras' own `{step_name}` under "
            "several replicas, which returns the metrics. Use `steps_per_execution=1`. "
            "Received: "
            f"steps_per_execution={steps}, {type(model).__name__}.{step_name}"
        )

    def on_replica(data: Any) -> Any:
        data = keras.tree.map_structure(_without_optional, data)
        return getattr(model, step_name)(data)

    def one_step(data: Any) -> Any:
        outputs = strategy.run(on_replica, args=(data,))
        logs = _metrics(model)
        if isinstance(outputs, dict) and set(outputs) == set(logs):
            return logs
        return keras.tree.map_structure(
            lambda value: strategy.reduce("MEAN", value, axis=None), outputs
        )

    def next_step(iterator: Any) -> Any:
        return one_step(iterator.get_next())

    def next_steps(iterator: Any) -> tuple[Any, Any]:
        # Keras itself returns the logs from inside `tf.cond` and `tf.while_loop`. The
        # replicas cannot meet there. Here the variables of the metrics carry them out.
        def step(count: Any, more: Any) -> tuple[Any, Any]:
            del more
            batch = iterator.get_next_as_optional()
            more = batch.has_value()
            tf.cond(more, lambda: run(batch.get_value()), lambda: None)
            return count + tf.cast(more, tf.int32), more

        def run(data: Any) -> None:
            strategy.run(on_replica, args=(data,))

        count, _ = tf.while_loop(
            lambda count, more: tf.logical_and(more, count < steps),
            step,
            [tf.constant(0), tf.constant(True)],
        )
        return count, _metrics(model)

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        if model.run_eagerly:
            return function
        return tf.function(function, autograph=False, reduce_retracing=True)

    on_batch, on_next, on_several = map(compiled, (one_step, next_step, next_steps))

    def function(iterator: Any) -> Any:
        if not isinstance(iterator, tf.distribute.DistributedIterator):
            # `train_on_batch` gives the whole batch to each replica.
            return on_batch(next(iterator))
        if steps == 1:
            return on_next(iterator)
        count, logs = on_several(iterator)
        if not int(count):
            raise StopIteration
        return logs

    return function


def _metrics(model: keras.Model) -> dict[str, Any]:
    """The metrics over all replicas."""
    variables = model.metrics_variables
    if any(variable.aggregation != "sum" for variable in variables):
        return model.get_metrics_result()
    strategy = model.distribute_strategy

    # Keras would send one message for each variable.
    def add_up() -> list[Any]:
        # `tf.identity` copies each variable to the device of the replica.
        return add_over_replicas([tf.identity(v.value) for v in variables])

    sums = [
        strategy.experimental_local_results(total)[0] for total in strategy.run(add_up)
    ]
    with keras.StatelessScope(state_mapping=zip(variables, sums, strict=True)):
        return model.get_metrics_result()


def _check_seeds(strategy: tf.distribute.Strategy) -> None:
    """Refuses workers that would shuffle the data in different orders."""
    seed = _compat.random_seed()
    # All workers must take part in the sum, those without a seed as well.
    number = -1 if seed is None else seed
    mean = sum_over_replicas(strategy, number) / strategy.num_replicas_in_sync
    if seed is None or mean != seed:
        raise ValueError(
            "All workers must have the same random seed. Each shuffles the whole data "
            "and takes its share, so with different seeds some examples come twice "
            "and others never. Call `keras.utils.set_random_seed(seed)` with the "
            "same number on all workers, before the model is created. Received: "
            f"{'no seed' if seed is None else f'seed {seed}'} on this worker"
            + ("" if mean == number else ", another on others")
        )


def _without_optional(value: Any) -> Any:
    # The data adapters of Keras replace `None` by an empty `tf.experimental.Optional`.
    return None if isinstance(value, tf.experimental.Optional) else value
