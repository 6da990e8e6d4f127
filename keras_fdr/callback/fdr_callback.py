"""The adaptive learning-rate schedule of the paper, as a Keras callback."""

import copy
from collections.abc import Callable
from typing import Any

import keras

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
from keras_fdr.callback.columns import columns_of
from keras_fdr.callback.cutting import cut, note_on_rate
from keras_fdr.callback.data_order import set_order
from keras_fdr.callback.full_batch_logs import EpochPasses
from keras_fdr.callback.planned import relaxation_of, with_relaxation
from keras_fdr.callback.record_checks import (
    RecordAtStart,
    check_after_epoch,
    check_before_epoch,
    warn_of_gaps,
    warn_of_rates,
)
from keras_fdr.callback.run_checks import (
    build_early,
    check_run,
    note_on_clipping,
    notes_on_run,
)
from keras_fdr.measure import is_measured, measured_optimizer
from keras_fdr.measured import Measured
from keras_fdr.notices import Notices
from keras_fdr.optimizer.cut_table import Cut
from keras_fdr.record import Record
from keras_fdr.restart.callback_list import check_neighbours
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

    At the end of each epoch (section 3.3 of the paper), if the rule finds the run
    stationary, the learning rate η is multiplied by `factor`, which is 1−Y in the
    paper. The count of steps t then restarts at 0. The default rule is the paper's,
    |Ō_L/Ō_R − 1| < X. Ō_L and Ō_R are the half-running averages of FDR1's two sides,
    and X is `threshold`.

    With `final_decay` no cuts are made. The rate decays to nearly 0 over the last share
    of the epochs, and begins to do so earlier if the rule finds the run stationary.

    It works with every Keras optimizer. One that is not an `FDRSGD` is measured from
    the weights before and after each step (see `measure`), and keeps its class.

    The epoch's logs get `learning_rate` (the η of the epoch's newest step), `fdr_ratio`
    and `fdr_noise_loss`. `fdr_noise_loss` is Ō_R/2. If the loss is harmonic, this is
    what the noise adds to the loss at this rate, and so about what a decay of the rate
    would gain now. With
    `all_columns` they also get `fdr_dissipation` (Ō_L), `fdr_fluctuation` (Ō_R),
    `fdr_stationary` (1.0 or 0.0), and `fdr_learning_rate`, a copy of `learning_rate`
    that other callbacks do not overwrite. With `full_batch`, a
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
            of the epochs. It begins earlier if the rule finds the run stationary, but
            never with `factor=None`. It does not lower the rate below `min_lr`.
            Defaults to `None`.
        all_columns: Boolean, whether the logs get all columns named above, or the few
            that fit into the line of an epoch. Defaults to `False`.

    Attributes:
        record: The `Record` of the newest epoch's end, before any cut.
        verdict: The `Verdict` on it. With `FDRObservables(per_variable=True)`, its
            `by_variable` has the verdicts on every weight tensor. Its reason then names
            the tensors that drift, and so does the printed line of a cut.

    Raises:
        ValueError: If an argument is outside its range; when training begins, if
            the model has no optimizer, if its rate follows a schedule that cuts would
            fight, if a callback that saves the model is listed
            before this one, or if there are two of this class.
        TypeError: If an argument is of a wrong type, or if `rule` does not return a
            `Verdict`.

    Reference:
        [Yaida, 2019](https://arxiv.org/abs/1810.00004), section 3.3.
    """

    def __init__(
        self,
        threshold: float = DEFAULT_THRESHOLD,
        factor: float | None = DEFAULT_FACTOR,
        rule: Callable[[Record], Verdict] | None = None,
        on_stationary: Callable[[keras.Model, Verdict], Any] | None = None,
        full_batch: Any = None,
        full_batch_every: int = 1,
        min_lr: float = 0.0,
        stop_at_minimum: bool = False,
        reset_velocities_on_cut: bool = False,
        verbose: int = 0,
        optimizer: keras.optimizers.Optimizer | None = None,
        final_decay: decay.FinalDecay | None = None,
        all_columns: bool = False,
    ) -> None:
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
            all_columns,
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
        self.all_columns = all_columns
        self._passes = None
        if full_batch is not None:
            self._passes = EpochPasses(full_batch, full_batch_every)
        self.record: Record | None = None
        self.verdict: Verdict | None = None
        self._notices = Notices()
        self._note_on_rate: str | None = None

    @property
    def cuts(self) -> list[Cut]:
        """List of `Cut`, oldest first: epoch, both learning rates, ratio."""
        return self._optimizer().cut_table.read() if self.model else []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks what can be checked before any weight changes."""
        del logs
        first = not is_measured(self.model, self.optimizer)
        optimizer = self._optimizer()
        if first:
            # `fit` calls the function that was made before the optimizer was measured.
            self.model.make_train_function(force=True)
        check_run(self, optimizer)
        check_neighbours(self, FDRCallback)
        build_early(self, optimizer)
        self._note_on_rate = note_on_rate(self)
        if self.final_decay:
            decay.prepare(self, optimizer)
        if self._passes:
            arguments = _compat.fit_call(self, self.model).arguments
            self._passes.prepare(self.model, self.params.get("verbose") == 1, arguments)
            self._notices.once("clipping", note_on_clipping(optimizer))
        for subject, note in notes_on_run(self, optimizer):
            self._notices.once(subject, note)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notices weights that were changed since the record was left."""
        # State is read no earlier than here: `BackupAndRestore` restores it
        # after `on_train_begin`.
        del logs
        optimizer = self._optimizer()
        set_order(self, optimizer)
        check_before_epoch(self.model, optimizer)
        if self.final_decay:
            decay.begin_epoch(self, optimizer, epoch)
        self._at_start = RecordAtStart.of(optimizer.observables)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Evaluates the rule, cuts if it says so, and fills the logs."""
        optimizer = self._optimizer()
        observables = optimizer.observables
        stopped_by_others = self.model.stop_training
        check_after_epoch(optimizer, self._notices)
        self.record = record = observables.record()
        self.verdict = verdict = self._verdict(record, optimizer)
        if self.factor:
            warn_of_rates(observables, record, self._at_start)
        warn_of_gaps(record, self._notices)
        if logs is not None:
            logs.update(columns_of(record, verdict, optimizer, self.all_columns))
            if self._passes:
                logs.update(self._passes.logs(epoch, optimizer))
        self._act(epoch, optimizer, verdict, record)
        if not observables.built:
            return  # Without a trainable weight there are no steps.
        optimizer.seal()
        ended = self.model.stop_training and not stopped_by_others
        optimizer.progress.mark(epoch + 1, optimizer, ended)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; refused where one is a function or a dataset."""
        return config_of(self, full_batch=self._passes is not None)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FDRCallback":
        """The callback that `get_config` describes. Its state is in the optimizer."""
        return cls(**arguments_of(config))

    def __deepcopy__(self, memo: dict[int, Any]) -> "FDRCallback":
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

    def _optimizer(self) -> Measured:
        return measured_optimizer(self.model, self.optimizer)

    def _verdict(self, record: Record, optimizer: Measured) -> Verdict:
        verdict = self._judge(record)
        if isinstance(self.rule, Configured):  # A user's own rule has its own words.
            verdict = with_relaxation(verdict, relaxation_of(self.model, optimizer))
        if optimizer.observables.per_variable:
            by_variable = optimizer.observables.record_by_variable()
            verdict = judge_variables(self._judge, verdict, by_variable)
        return verdict

    def _judge(self, record: Record) -> Verdict:
        verdict = self.rule(record)
        if not isinstance(verdict, Verdict):
            raise TypeError(
                "`rule` must return a `Verdict` for each `Record`. "
                f"Received: {verdict!r} from rule={self.rule}"
            )
        return explain_schedule(verdict, record)

    def _act(
        self, epoch: int, optimizer: Measured, verdict: Verdict, record: Record
    ) -> None:
        """Does what follows from a stationary run, or from its planned end."""
        stationary = verdict.stationary and not blocking_reason(record)
        if self.final_decay:
            may_begin = stationary and self.factor is not None
            self._print(decay.end_epoch(self, optimizer, epoch, may_begin))
        elif stationary and self.on_stationary:
            self.on_stationary(self.model, verdict)
            optimizer.observables.reset()
        elif stationary and self.factor:
            self._cut(epoch, optimizer, verdict)

    def _cut(self, epoch: int, optimizer: Measured, verdict: Verdict) -> None:
        made = cut(self, optimizer, epoch, verdict)
        if made:
            self._notices.once("rate", self._note_on_rate)
            old, new = made.old_learning_rate, made.new_learning_rate
            self._print(
                f"Epoch {epoch + 1}: learning rate cut from {old:.4g} to {new:.4g}. "
                f"{verdict.reason}"
            )
        elif self.stop_at_minimum:
            self.model.stop_training = True
            self._print(f"Epoch {epoch + 1}: stationary at the minimum: stopping.")

    def _print(self, message: str) -> None:
        if self.verbose and message:
            print(f"\n{message}")
