"""The adaptive learning-rate schedule of the paper, as a Keras callback."""

import copy
import math
from typing import Any

import keras
import numpy as np

from keras_fdr import _compat
from keras_fdr.callback import final_decay as decay
from keras_fdr.callback.arguments import (
    DEFAULT_FACTOR,
    DEFAULT_THRESHOLD,
    arguments_of,
    check_arguments,
    check_final_decay,
    config_of,
)
from keras_fdr.callback.columns import columns_of, rate_of
from keras_fdr.callback.data_order import begin_epoch, repeated_order
from keras_fdr.callback.full_batch_logs import EpochPasses
from keras_fdr.callback.planned import note_on_plan, relaxation_of, with_relaxation
from keras_fdr.distribution.loss_shares import announce_shares
from keras_fdr.distribution.trainer import check_execution
from keras_fdr.measure import is_measured, measured_optimizer
from keras_fdr.model_checks import check_eager_layers
from keras_fdr.notices import notice
from keras_fdr.optimizer.cut_table import Cut
from keras_fdr.optimizer.sgd import FDRSGD
from keras_fdr.record import Record
from keras_fdr.restart.callback_list import (
    check_neighbours,
    prepare_restart,
    rate_writers,
)
from keras_fdr.rules import (
    Configured,
    ThresholdRule,
    Verdict,
    blocking_reason,
    judge_variables,
)
from keras_fdr.rules.schedule import explain_schedule


@keras.saving.register_keras_serializable(package="keras_fdr")
class FDRCallback(keras.callbacks.Callback):
    """Cuts the learning rate when it has done its work.

    At the end of each epoch (section 3.3 of the paper): if the rule finds the run
    stationary, then η ← (1−Y) η and t ← 0. The default rule is the paper's,
    |Ō_L/Ō_R − 1| < X, on half-running averages of FDR1's two sides.

    With `final_decay` no cuts are made. The rate decays to nearly 0 over the last share
    of the epochs, and begins to do so earlier if the rule finds the run stationary.

    It works with every Keras optimizer. One that is not an `FDRSGD` is measured from
    the weights before and after each step (see `measure`), and keeps its class.

    The epoch's logs get `fdr_learning_rate` (the η of the epoch's newest step; also as
    `learning_rate`, which other callbacks may overwrite), `fdr_dissipation` (Ō_L),
    `fdr_fluctuation` (Ō_R), `fdr_noise_loss` (Ō_R/2: what the noise of this rate adds
    to the loss if the loss is harmonic, hence about what a decay of the rate would earn
    now), `fdr_ratio` and `fdr_stationary` (1.0 or 0.0). With `full_batch`, a
    `FullBatchPass` at the end of the epoch adds `full_batch_loss` (f),
    `full_batch_gradient_norm` (|∇f|), the compiled metrics over that dataset as
    `full_batch_<metric>`, and `full_batch_dissipation`: the half-running average of
    FDR2's left side O_FB, eq. (18), over the passes since the last cut. Epochs without
    a pass get NaN.
    List this callback before those that write logs or checkpoints. All that a
    decision rests on is kept in the optimizer.

    Example:

    >>> import keras, numpy as np
    >>> from keras_fdr import FDRSGD
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer=FDRSGD(learning_rate=0.05, l2=0.01), loss="mse")
    >>> x, y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
    >>> callback = FDRCallback()
    >>> history = model.fit(x, y, epochs=3, verbose=0, callbacks=[callback])
    >>> len(history.history["fdr_ratio"])
    3
    >>> callback.cuts
    []

    Args:
        threshold: Float above 0, X of the paper's rule. Defaults to `0.01`.
        factor: Float in (0, 1), 1 − Y of the paper: a cut multiplies the learning
            rate by it. `None` only measures and never cuts. Defaults to `0.9`.
        rule: `DriftRule`, `ConfidenceRule` or any function `Record -> Verdict`
            instead of the paper's rule with `threshold`. With
            `FDRObservables(per_variable=True)` it is also called on the `Record` of
            every weight tensor, which has no loss. Defaults to `None`.
        on_stationary: A function `(model, verdict)` that is called instead of cutting
            when the run is stationary, for instance to set `model.stop_training`; the
            record restarts at t = 0 afterwards. Defaults to `None`.
        full_batch: The training set, for full-batch passes: a `tf.data.Dataset` of
            batches or a tuple of arrays, `(x, y)` or `(x, y, sample_weight)`.
            Examples that have a `sample_weight` in `fit` must have it here too.
            The `class_weight` of `fit` is applied to `(x, y)`. Defaults to `None`,
            no passes.
        full_batch_every: Integer, at least 1: epochs from one pass to the next.
            Defaults to `1`.
        min_lr: Float, at least 0: no cut goes below it.
            Defaults to `0.0`.
        stop_at_minimum: Boolean, whether training stops when the run is
            stationary at `min_lr`. Defaults to `False`.
        reset_velocities_on_cut: Boolean, whether a cut sets the velocities to 0,
            as the paper's sequential runs do. Defaults to `False`.
        verbose: Integer; above 0 each cut is printed with its reason.
            Defaults to `0`.
        optimizer: The `keras.optimizers.Optimizer` to measure and to cut, where the
            model has several, as a GAN does. Defaults to `None`, the one that the model
            was compiled with.
        final_decay: A `FinalDecay`, the decay of the learning rate over the last share
            of the epochs. It begins earlier if the rule finds the run stationary, and
            training then ends with it; with `factor=None` it never does. No rate of it
            is below `min_lr`. Defaults to `None`.

    Attributes:
        record: The `Record` of the newest epoch's end, before any cut.
        verdict: The `Verdict` on it. With `FDRObservables(per_variable=True)` it has
            those on every weight tensor as `by_variable`, and its reason, hence the
            printed line of a cut, names the ones that drift.

    Raises:
        ValueError: If an argument is outside its range; when training begins, if
            the model has no optimizer, if its rate follows a schedule that cuts would
            fight, if a callback that saves the model is listed
            before this one, or if there are two of this class.
        TypeError: If an argument is of a wrong type, or if `rule` returns something
            else than a `Verdict`.

    Reference:
        [Yaida, 2019](https://arxiv.org/abs/1810.00004), section 3.3.
    """

    def __init__(
        self,
        threshold=DEFAULT_THRESHOLD,
        factor=DEFAULT_FACTOR,
        rule=None,
        on_stationary=None,
        full_batch=None,
        full_batch_every=1,
        min_lr=0.0,
        stop_at_minimum=False,
        reset_velocities_on_cut=False,
        verbose=0,
        optimizer=None,
        final_decay=None,
    ):
        super().__init__()
        check_arguments(
            threshold,
            factor,
            rule,
            on_stationary,
            full_batch,
            full_batch_every,
            min_lr,
            stop_at_minimum,
            reset_velocities_on_cut,
            verbose,
            optimizer,
        )
        check_final_decay(final_decay, factor, on_stationary, stop_at_minimum)
        self.rule = rule or ThresholdRule(threshold)
        self.on_stationary = on_stationary
        self.factor: Any = None if on_stationary else factor
        self.min_lr = min_lr
        self.stop_at_minimum = stop_at_minimum
        self.reset_velocities_on_cut = reset_velocities_on_cut
        self.verbose = verbose
        self.optimizer = optimizer
        self.final_decay = final_decay
        self._passes = None
        if full_batch is not None:
            self._passes = EpochPasses(full_batch, full_batch_every)
        self.record: Record | None = None
        self.verdict: Verdict | None = None
        self._warned_of: set[str] = set()
        self._rate_writers: list[str] = []

    @property
    def cuts(self):
        """List of `Cut`, oldest first: epoch, both learning rates, ratio."""
        return self._optimizer().cut_table.read() if self.model else []

    def on_train_begin(self, logs=None):
        """Checks what can be checked before any weight changes."""
        del logs
        first = not is_measured(self.model, self.optimizer)
        optimizer = self._optimizer()
        if first:
            # `fit` calls the function that was made before the optimizer was measured.
            self.model.make_train_function(force=True)
        schedule = _compat.learning_rate_schedule(optimizer)
        if (self.factor or self.final_decay) and schedule is not None:
            raise ValueError(
                "A learning rate that follows a schedule cannot also be cut: two "
                "schedulers would fight. Give the optimizer a float, or pass "
                "`factor=None` without `final_decay` to measure only. Received: "
                f"learning_rate={schedule}"
            )
        check_execution(self.model)
        if isinstance(optimizer, FDRSGD):
            if optimizer is getattr(self.model.optimizer, "inner_optimizer", None):
                _compat.open_loss_scaling(self.model.optimizer)
            announce_shares(self.model, optimizer)
        else:
            self._check_stock(optimizer)
        check_neighbours(self, FDRCallback)
        arguments = _compat.fit_call(self, self.model).arguments
        check_eager_layers(self.model, _compat.batch_spec(arguments))
        self._rate_writers = rate_writers(self)
        if self.final_decay:
            decay.prepare(self, optimizer)
        elif isinstance(self.rule, Configured) and (self.factor or self.on_stationary):
            tau = relaxation_of(self.model, optimizer)
            note = note_on_plan(
                tau, self.params.get("epochs"), self.params.get("steps")
            )
            if note:
                self._warn_once("plan", note)
        note = prepare_restart(self)
        if note:
            self._warn_once("restart", note)
        note = repeated_order(self)
        if note:
            self._warn_once("order", note)
        if self._passes:
            self._passes.prepare(self.model, self.params.get("verbose") == 1, arguments)
            self._warn_of_clipping(optimizer)
        regularised = any(
            getattr(w, "regularizer", None) for w in self.model.trainable_weights
        )
        if not (optimizer.l2 or regularised or optimizer.weight_decay):
            self._warn_once(
                "l2",
                "The loss has no L2 term (`FDRSGD(l2=...)`, a regulariser in the "
                "layers, or `weight_decay` of another optimizer): the weights may "
                "drift for ever, and a stationary state need not exist (section 2.3.4 "
                "of the paper).",
            )

    def on_epoch_begin(self, epoch, logs=None):
        """Notices weights that were changed since the record was left."""
        # State is read no earlier than here: `BackupAndRestore` restores it
        # after `on_train_begin`.
        del logs
        optimizer = self._optimizer()
        begin_epoch(self, optimizer)
        observables = optimizer.observables
        loss = _compat.loss_as_given(self.model)
        built = optimizer.built and observables.built
        if built and observables.is_of_another_loss(loss):
            observables.reset()
            notice(
                "The model was compiled with another loss since the last epoch. An "
                "average over two losses means nothing, so the record restarts at "
                "t = 0."
            )
        if built and not optimizer.weights_unchanged():
            observables.reset()
            notice(
                "The weights or velocities were changed from outside since the last "
                "epoch (by another callback, `set_weights`, `load_weights`, or the "
                "average that `use_ema` puts in their place when training ends): the "
                "record restarts at t = 0."
            )
        if self.final_decay:
            decay.begin_epoch(self, optimizer, epoch)
        self._restarts = observables.restart_count()
        self._record_learning_rate = observables.recorded_learning_rate()

    def on_epoch_end(self, epoch, logs=None):
        """Evaluates the rule, cuts if it says so, and fills the logs."""
        optimizer = self._optimizer()
        observables = optimizer.observables
        stopped_by_others = self.model.stop_training
        if observables.built and not optimizer.weights_unchanged():
            observables.reset()
            self._warn_once(
                "moved",
                "Something other than the optimizer changed weights or velocities "
                "within the epoch (an assignment in a layer, a callback, or a training "
                "loop): the rows do not add up to where the weights are, by far more "
                "than rounding. The record restarts at t = 0.",
            )
        self.record = record = observables.record()
        verdict = self._judge(record)
        if isinstance(self.rule, Configured):  # A user's own rule has its own words.
            verdict = with_relaxation(verdict, relaxation_of(self.model, optimizer))
        if observables.per_variable:
            by_variable = observables.record_by_variable()
            verdict = judge_variables(self._judge, verdict, by_variable)
        self.verdict = verdict
        self._warn_of_breaks(observables, record)
        if logs is not None:
            logs.update(columns_of(record, verdict, optimizer))
            if self._passes:
                logs.update(self._passes.logs(epoch, optimizer))
        stationary = verdict.stationary and not blocking_reason(record)
        if self.final_decay:
            may_begin = stationary and self.factor is not None
            self._print(decay.end_epoch(self, optimizer, epoch, may_begin))
        elif stationary:
            if self.on_stationary:
                self.on_stationary(self.model, verdict)
                observables.reset()
            elif self.factor:
                self._cut(epoch, optimizer, rate_of(optimizer), verdict)
        if not observables.built:
            return  # Without a trainable weight there are no steps.
        optimizer.seal()
        ended = self.model.stop_training and not stopped_by_others
        optimizer.progress.mark(epoch + 1, optimizer, ended)

    def get_config(self):
        """The constructor's arguments; refused where one is a function or a dataset."""
        return config_of(self, full_batch=self._passes is not None)

    @classmethod
    def from_config(cls, config):
        """The callback that `get_config` describes. Its state is in the optimizer."""
        return cls(**arguments_of(config))

    def __deepcopy__(self, memo):
        """A callback of the same arguments for another `fit`: it has no model yet."""
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        for name, value in vars(self).items():
            if name in ("_model", "params"):
                setattr(new, name, None)
            elif name == "optimizer":
                new.optimizer = value
            else:
                setattr(new, name, copy.deepcopy(value, memo))
        return new

    def _optimizer(self):
        return measured_optimizer(self.model, self.optimizer)

    def _check_stock(self, optimizer):
        """Refuses what only `FDRSGD` can do."""
        if (self.factor or self.final_decay) and optimizer.has_several_rates:
            names = [type(part).__name__ for part in optimizer.optimizers]
            raise ValueError(
                "A cut needs one learning rate, and a `MultiOptimizer` has several: "
                "pass `factor=None` to measure only, or "
                "`FDRCallback(optimizer=...)` to choose one of its optimizers. "
                f"Received: a MultiOptimizer of {', '.join(names)}"
            )
        if self.reset_velocities_on_cut:
            raise ValueError(
                "`reset_velocities_on_cut` needs velocities in the paper's form: "
                "compile the model with `keras_fdr.FDRSGD`. "
                f"Received: optimizer={type(optimizer.optimizer).__name__}"
            )

    def _judge(self, record):
        verdict = self.rule(record)
        if not isinstance(verdict, Verdict):
            raise TypeError(
                "`rule` must return a `Verdict` for each `Record`. "
                f"Received: {verdict!r} from rule={self.rule}"
            )
        return explain_schedule(verdict, record)

    def _cut(self, epoch, optimizer, old, verdict):
        new = max(self.factor * old, self.min_lr)
        if np.float32(new) >= np.float32(old):
            if self.stop_at_minimum:
                self.model.stop_training = True
                self._print(f"Epoch {epoch + 1}: stationary at the minimum: stopping.")
            return
        optimizer.learning_rate = new
        optimizer.observables.reset()
        if self.reset_velocities_on_cut:
            optimizer.reset_velocities()
        if self._rate_writers:
            self._warn_once(
                "rate_writers",
                f"{', '.join(self._rate_writers)} will write the learning rate after "
                "the cut into the logs of this epoch as `learning_rate`, although the "
                "epoch was trained with the rate before it. Read `fdr_learning_rate` "
                "instead, which is the rate of the epoch.",
            )
        optimizer.cut_table.append(Cut(epoch, old, new, verdict.ratio))
        self._print(
            f"Epoch {epoch + 1}: learning rate cut from {old:.4g} to {new:.4g}. "
            f"{verdict.reason}"
        )

    def _print(self, message):
        if self.verbose and message:
            print(f"\n{message}")

    def _warn_of_breaks(self, observables, record):
        restarted = observables.restart_count() > self._restarts
        varies = record.learning_rates is not None
        if (restarted or varies) and self.factor:
            newest = observables.newest_learning_rate()
            before = record.learning_rate if varies else self._record_learning_rate
            effect = (
                "the record averages over these rates."
                if varies
                else "the record restarted at t = 0."
            )
            notice(
                "The learning rate was changed inside a record by something other than "
                f"`FDRCallback` (from {before:.6g} to {newest:.6g}): {effect} "
                "Pass `factor=None` to leave the schedule to the other."
            )
        if record.first_nonfinite("dissipation", "fluctuation"):
            self._warn_once("nonfinite", blocking_reason(record))
        elif record.steps and math.isnan(_first_loss(record)):
            self._warn_once(
                "loss",
                "The loss is missing in the record, so rules that need it cannot "
                "decide: the model's `train_step` does not tell it to the optimizer. "
                "Call `loss = self.optimizer.scale_loss(loss)` in `train_step`, "
                "before the gradients are taken.",
            )

    def _warn_of_clipping(self, optimizer):
        if optimizer.clipnorm or optimizer.global_clipnorm or optimizer.clipvalue:
            self._warn_once(
                "clipping",
                "FDR2 needs mini-batch gradients whose mean is the full-batch "
                "gradient. Clipped ones are not: `full_batch_dissipation` says nothing "
                "of the Hessian then.",
            )

    def _warn_once(self, subject, message):
        if subject not in self._warned_of:
            self._warned_of.add(subject)
            notice(message)


def _first_loss(record):
    # NaN from the first step on is no overflow: those reach the observables as well.
    return record.sums[0, record.names.index("loss")]
