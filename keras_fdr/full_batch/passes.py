"""The exact gradient of the loss over a whole dataset."""

import time
from itertools import zip_longest
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_fdr import _compat
from keras_fdr.arguments import check_boolean, check_verbosity
from keras_fdr.data import TrainingSet
from keras_fdr.distribution.workers import true_on_all
from keras_fdr.full_batch.gradient_sums import GradientSums
from keras_fdr.full_batch.objective import Objective, refusing
from keras_fdr.full_batch.result import FullBatch
from keras_fdr.full_batch.totals import Totals
from keras_fdr.snapshot import State

# A progress bar appears after so many seconds.
_PATIENCE_SECONDS = 3.0
# Its updates are at least so many seconds apart.
_UPDATE_SECONDS = 0.5


class FullBatchPass:
    """Computes the loss f over a whole dataset, and its gradient.

        f(θ) = 1/N_s Σ_α f_α(θ) + all regularisers

    Here θ are the weights, N_s is the number of examples, and f_α is the loss of the
    example α. f is the loss that `fit` minimises. It has the loss of each output with
    its loss weight, sample weights and masks, the regularisers of the layers, and the
    `l2` of an `FDRSGD`. The result does not depend on how the dataset is cut into
    batches. It equals that of one batch with the whole dataset.

    If the model was created under a strategy with several replicas, they share each
    batch.

    A pass compiles once and sums on the device. It needs the memory of one batch and of
    two copies of the gradient. It leaves metrics, normalisation statistics and seed
    generators as it found them.

    Example:

    >>> import keras, numpy as np
    >>> from keras_fdr import FDRSGD
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer=FDRSGD(l2=0.1), loss="mse")
    >>> model.set_weights([np.array([[1.0], [2.0]]), np.array([0.0])])
    >>> x, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.zeros((2, 1))
    >>> full_batch = FullBatchPass(model, (x, y))(gradient=True)
    >>> round(full_batch.loss, 6)  # (1² + 2²)/2 + 0.1 (1² + 2²)/2
    2.75
    >>> print(full_batch.gradient[0].numpy().ravel().round(6))
    [1.1 2.2]

    Args:
        model: A compiled `keras.Model`.
        dataset: `tf.data.Dataset` of batches `(x, y)` or `(x, y, sample_weight)`,
            which may have unequal sizes, or a tuple of arrays of that form. Arrays are
            read in batches of at most 16 MiB and 4,096 examples. There is no
            `class_weight` as in `fit`: pass a `sample_weight` instead.
        training: Boolean, whether layers run as in training. With `False` f is a
            function of θ alone, as FDR2 needs it. With `True` dropout makes f random,
            and normalisation over the batch makes the result depend on how the dataset
            is cut into batches. Defaults to `False`.
        verbose: Integer. Above 0 a progress bar is shown if a pass takes more than a
            few seconds. Defaults to `0`.

    Call arguments:
        gradient: Boolean, whether the result holds ∇f itself. Defaults to `False`.

    Returns:
        A `FullBatch`.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If the model is not compiled, or its loss is not a mean over the
            examples. If the dataset is empty, infinite or unlabelled, or does not have
            the structure of the model.

    Reference:
        [Yaida, 2019](https://arxiv.org/abs/1810.00004), section 3.2.
    """

    def __init__(
        self,
        model: keras.Model,
        dataset: Any,
        training: bool = False,
        verbose: int = 0,
    ) -> None:
        self.training = check_boolean("training", training)
        self.verbose = check_verbosity(verbose)
        self.model = model
        data = TrainingSet.of(dataset)
        self.objective = Objective(model, data.spec)
        self._sums = GradientSums(self.objective, self.training)
        self._strategy = model.distribute_strategy
        self._check_batch(data.spec)
        self._batch_count = int(data.batches.cardinality())
        self._batches = self._strategy.experimental_distribute_dataset(data.batches)
        self._compile()

    def _check_batch(self, spec: Any) -> None:
        """Traces one batch without computing it, so that errors are raised now.

        Only a trace shows whether the losses and layers can compute a batch.
        """

        def of_replica(x: Any, y: Any, sample_weight: Any = None) -> None:
            self.objective.sums(x, y, sample_weight, self.training)

        def of_batch(*batch: Any) -> None:
            self._strategy.run(of_replica, args=batch)

        traced = tf.function(of_batch, autograph=False)
        with refusing(spec, _compat.UnfitLossError):
            traced.get_concrete_function(*spec)

    def _compile(self) -> None:
        self._compiled_for = self.weights
        self._totals = Totals(self._strategy)
        # `fit` uses XLA or not by the same setting.
        jit_compile = bool(self.model.jit_compile)
        self._batch = tf.function(
            self._add_up_batch, autograph=False, jit_compile=jit_compile
        )
        self._advance = tf.function(self._add_batches, autograph=False)
        self._finish = tf.function(self._summarise, autograph=False)

    @property
    def weights(self) -> list[keras.Variable]:
        """The weights θ, in the order of `FullBatch.gradient`."""
        return self.objective.weights

    @property
    def metric_names(self) -> list[str]:
        """The names of the compiled metrics."""
        return [name for name in self.model.get_metrics_result() if name != "loss"]

    def is_current(self, model: keras.Model) -> bool:
        """Whether this pass is of `model`, and the model was not compiled again."""
        return self.objective.is_current(model)

    def __call__(self, gradient: bool = False) -> FullBatch:
        """Computes the whole dataset once (see the class)."""
        check_boolean("gradient", gradient)
        model = self.model
        # The optimizer may have been built after this pass, for fewer weights.
        pairs = zip_longest(self.weights, self._compiled_for)
        if any(now is not then for now, then in pairs):
            self._compile()
        variables = [
            *model.non_trainable_variables,
            *model.metrics_variables,
            *_compat.global_seed(),
        ]
        state = State(variables, self._strategy)
        try:
            for metric in model.metrics:
                metric.reset_state()
            self._add_all_batches()
            loss, norm_squared, examples, losses, parts = self._finish()
            if int(examples) == 0:
                raise ValueError(
                    "`dataset` must have at least one example. Received: an empty "
                    "dataset"
                )
            metrics = model.get_metrics_result()
            # Keras averages the losses of the batches. Masks and unequal batches bias
            # this mean, so it is left out.
            metrics.pop("loss", None)
            metrics.update(losses)
            return FullBatch(
                loss=float(loss),
                gradient_norm_squared=float(norm_squared),
                examples=int(examples),
                metrics={name: _as_number(value) for name, value in metrics.items()},
                gradient=list(parts) if gradient else None,
            )
        finally:
            state.restore()

    def _add_all_batches(self) -> None:
        """Adds all batches, in short calls, so that progress is shown between them."""
        self._totals.clear()
        iterator = iter(self._batches)
        start = updated = time.monotonic()
        done, size, more, bar = 0, 1, True, None
        while more:
            count, more = self._advance(iterator, tf.constant(size, tf.int64))
            done, more = done + int(count), bool(more)
            now = time.monotonic()
            # All workers compute each batch together, so all must make the same calls.
            # Their clocks differ, so they agree on the size of the next call.
            if true_on_all(self._strategy, now - updated < _UPDATE_SECONDS):
                size *= 2
            elif self.verbose and now - start > _PATIENCE_SECONDS:
                bar = bar or self._progress_bar()
                bar.update(done)
            updated = now
        if bar:
            bar.update(done, finalize=True)

    def _progress_bar(self) -> keras.utils.Progbar:
        target = self._batch_count if self._batch_count > 0 else None
        return keras.utils.Progbar(target, unit_name="batch")

    def _add_batches(self, iterator: Any, limit: Any) -> tuple[Any, Any]:
        """Adds up to `limit` batches.

        Returns:
            `(count, more)`: how many batches there were, and whether more may come.
        """

        def add_next(count: Any, more: Any) -> tuple[Any, Any]:
            del more
            batch = iterator.get_next_as_optional()
            more = batch.has_value()
            tf.cond(more, lambda: self._add(batch.get_value()), lambda: None)
            return count + tf.cast(more, tf.int64), more

        return tf.while_loop(
            lambda count, more: tf.logical_and(more, count < limit),
            add_next,
            [tf.zeros((), tf.int64), tf.constant(True)],
        )

    def _add(self, batch: Any) -> None:
        self._totals.add(self._strategy.run(self._batch, args=batch))

    def _add_up_batch(self, x: Any, y: Any, sample_weight: Any = None) -> Any:
        """The sums over one replica's share of a batch, and the gradient of each."""
        values, y_pred = self._sums.of_batch(x, y, sample_weight)
        self.model.compute_metrics(x, y, y_pred, sample_weight)
        return values

    def _summarise(self) -> tuple[Any, Any, Any, Any, Any]:
        """What `GradientSums.finish` makes of the totals."""
        return self._sums.finish(*self._totals.read())


def _as_number(value: Any) -> Any:
    """The value of a metric as a number, or as an array if it has several."""
    value = np.asarray(value)
    return value.item() if value.ndim == 0 else value
