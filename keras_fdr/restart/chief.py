"""Callbacks that only one of several workers should run."""

from typing import Any

import keras

from keras_fdr.distribution.workers import has_several_workers, sum_over_replicas
from keras_fdr.model_checks import check_model
from keras_fdr.restart.backup import repair_backup


def on_chief(
    model: keras.Model, callback: keras.callbacks.Callback
) -> keras.callbacks.Callback:
    """Makes a callback act only on the chief, the first of several workers.

    Workers that write checkpoints or logs to the same place damage each other's files.
    All workers have the same weights and logs, so one writer is enough.

    `keras.callbacks.BackupAndRestore` saves on the chief and restores on all workers,
    from the same file. So its `backup_dir` must be on a file system that all workers
    see. With separate folders, a worker that is killed while it saves would resume an
    epoch behind the others.

    Example:

    >>> import keras, numpy as np
    >>> from keras_fdr import FDRSGD, FDRCallback, on_chief
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer=FDRSGD(learning_rate=0.05, l2=0.01), loss="mse")
    >>> backup = keras.callbacks.BackupAndRestore("backup", double_checkpoint=True)
    >>> callbacks = [FDRCallback(), on_chief(model, backup)]

    Args:
        model: The `keras.Model` that will train.
        callback: A `keras.callbacks.Callback` that does not need the other workers. It
            may save the model and write logs, but not call `evaluate`.

    Returns:
        A callback to pass to `fit` instead. With a single worker it is the same one.

    Raises:
        TypeError: If `model` is not a `keras.Model`, or `callback` is not a
            `keras.callbacks.Callback`.
        ValueError: When training begins, if not all workers restored the same state.
    """
    check_model(model)
    if not isinstance(callback, keras.callbacks.Callback):
        raise TypeError(
            "`callback` must be a `keras.callbacks.Callback`. "
            f"Received: {type(callback).__name__}"
        )
    strategy = model.distribute_strategy
    if not has_several_workers(strategy):
        return callback
    resolver = strategy.cluster_resolver
    first = "chief" if "chief" in resolver.cluster_spec().as_dict() else "worker"
    is_chief = (resolver.task_type, resolver.task_id) == (first, 0)
    if isinstance(callback, keras.callbacks.BackupAndRestore):
        return _Backup(callback, is_chief)
    return callback if is_chief else keras.callbacks.Callback()


class _Backup(keras.callbacks.Callback):
    """Restores on all workers, the chief first, and saves on the chief."""

    def __init__(self, callback: keras.callbacks.Callback, is_chief: bool) -> None:
        super().__init__()
        self.backup = callback
        self._is_chief = is_chief

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self.backup.set_model(model)

    def set_params(self, params: dict[str, Any]) -> None:
        super().set_params(params)
        self.backup.set_params(params)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        strategy = self.model.distribute_strategy
        # The chief repairs a broken backup before any other worker reads it.
        if self._is_chief:
            repair_backup(self.backup, self.params.get("epochs"))
            self.backup.on_train_begin(logs)
        sum_over_replicas(strategy, 0)
        if not self._is_chief:
            self.backup.on_train_begin(logs)
        own = int(self.model.optimizer.iterations.numpy())
        mean = sum_over_replicas(strategy, own) / strategy.num_replicas_in_sync
        if mean != own:
            raise ValueError(
                "All workers must restore the same backup, so `backup_dir` must be on "
                "a file system that all workers see. Received: "
                f"backup_dir={self.backup.backup_dir!r} and {own} steps on this "
                f"worker, {mean:.6g} on average"
            )

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        if self._is_chief:
            self.backup.on_train_batch_end(batch, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._is_chief:
            self.backup.on_epoch_end(epoch, logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._is_chief:
            self.backup.on_train_end(logs)


def unwrapped(callback: keras.callbacks.Callback) -> keras.callbacks.Callback:
    """The callback that was given to `on_chief`, or the one given."""
    return callback.backup if isinstance(callback, _Backup) else callback
