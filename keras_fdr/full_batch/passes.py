"""The exact gradient of the loss over a whole dataset."""

import time
from itertools import zip_longest

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

# Seconds of silence after which a progress bar appears, and between its updates.
_PATIENCE = 3.0
_UPDATE_EVERY = 0.5


class FullBatchPass:
    """Computes the gradient of f over a whole dataset, as `fit` defines f.

        f(θ) = 1/N_s Σ_α f_α(θ) + all regularisers

    with every output's loss and loss weight, sample weights and masks, the layers'
    regularisers and the `l2` of an `FDRSGD`. It equals the gradient of one batch
    that holds the whole dataset, whatever the batches are. Under the strategy that
    the model was created in, the replicas share each batch.

    A pass compiles once, sums on the device, needs the memory of one batch and two
    copies of the gradient, and leaves metrics, normalisation statistics and seed
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
        dataset: `tf.data.Dataset` of batches `(x, y)` or `(x, y, sample_weight)`
            of any size, also unequal; or a tuple of arrays of that form, which is
            gone through in batches of at most 16 MiB and 4,096 examples.
            `class_weight` exists in `fit` only: pass `sample_weight`.
        training: Boolean, whether layers run as in training. With `False` f is a
            function of θ alone, which FDR2 is about. With `True` dropout makes it
            random, and normalisation over the batch makes the result depend on how
            the dataset is cut into batches. Defaults to `False`.
        verbose: Integer; above 0 a progress bar is shown when a pass takes more
            than a few seconds. Defaults to `0`.

    Call arguments:
        gradient: Boolean, whether the result holds ∇f itself. Defaults to `False`.

    Returns:
        A `FullBatch`.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If the model is not compiled, has a loss that is no mean over the
            examples, or if the dataset is empty, infinite, unlabelled or does not
            have the structure of the model.

    Reference:
        [Yaida, 2019](https://arxiv.org/abs/1810.00004), section 3.2.
    """

    def __init__(self, model, dataset, training=False, verbose=0):
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

    def _check_batch(self, spec):
        """Traces one batch without computing it, so that errors come now.

        Only a trace shows what the losses and layers do.
        """

        def of_replica(x, y, sample_weight=None):
            self.objective.sums(x, y, sample_weight, self.training)

        def of_batch(*batch):
            self._strategy.run(of_replica, args=batch)

        traced = tf.function(of_batch, autograph=False)
        with refusing(spec, _compat.UnfitLossError):
            traced.get_concrete_function(*spec)

    def _compile(self):
        self._compiled_for = self.weights
        self._totals = Totals(self._strategy)
        # Keras' own choice for `fit` on this machine.
        jit_compile = bool(self.model.jit_compile)
        self._batch = tf.function(
            self._add_up_batch, autograph=False, jit_compile=jit_compile
        )
        self._advance = tf.function(self._add_batches, autograph=False)
        self._finish = tf.function(self._summarise, autograph=False)

    @property
    def weights(self):
        """List of `keras.Variable`: θ, in the order of `FullBatch.gradient`."""
        return self.objective.weights

    @property
    def metric_names(self):
        """List of strings, the keys of `FullBatch.metrics`."""
        return [name for name in self.model.get_metrics_result() if name != "loss"]

    def is_current(self, model):
        """Whether this pass is of `model` as it is compiled now."""
        return self.objective.is_current(model)

    def __call__(self, gradient=False):
        """Goes through the dataset once (see the class)."""
        check_boolean("gradient", gradient)
        model = self.model
        # The optimizer may have been built since, for fewer weights.
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
            self._go_through()
            loss, norm_squared, examples, losses, parts = self._finish()
            if int(examples) == 0:
                raise ValueError(
                    "`dataset` must have at least one example. Received: an empty "
                    "dataset"
                )
            metrics = model.get_metrics_result()
            # Keras' mean of the batches' losses, which masks and ragged ends bias.
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

    def _go_through(self):
        """Adds all batches, in calls short enough to show progress between them."""
        self._totals.clear()
        iterator = iter(self._batches)
        start = updated = time.monotonic()
        done, size, more, bar = 0, 1, True, None
        while more:
            count, more = self._advance(iterator, tf.constant(size, tf.int64))
            done, more = done + int(count), bool(more)
            now = time.monotonic()
            # Workers meet at each batch, so all must make the same calls; their clocks
            # differ.
            if true_on_all(self._strategy, now - updated < _UPDATE_EVERY):
                size *= 2
            elif self.verbose and now - start > _PATIENCE:
                bar = bar or self._progress_bar()
                bar.update(done)
            updated = now
        if bar:
            bar.update(done, finalize=True)

    def _progress_bar(self):
        target = self._batch_count if self._batch_count > 0 else None
        return keras.utils.Progbar(target, unit_name="batch")

    def _add_batches(self, iterator, limit):
        """Adds up to `limit` batches; how many there were, and whether more come."""

        def add_next(count, more):
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

    def _add(self, batch):
        self._totals.add(self._strategy.run(self._batch, args=batch))

    def _add_up_batch(self, x, y, sample_weight=None):
        """One replica's share of a batch: its sums, and the gradient of each."""
        values, y_pred = self._sums.of_batch(x, y, sample_weight)
        self.model.compute_metrics(x, y, y_pred, sample_weight)
        return values

    def _summarise(self):
        """f, |∇f|², the examples, each loss and ∇f from the totals."""
        return self._sums.finish(*self._totals.read())


def _as_number(value):
    value = np.asarray(value)
    return value.item() if value.ndim == 0 else value
