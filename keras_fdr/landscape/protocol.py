"""The sequential runs of the paper over learning rates."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_fdr import _compat
from keras_fdr.arguments import (
    check_callable,
    check_integer,
    check_path,
    check_verbosity,
)
from keras_fdr.batches import independent_batches, reshuffled_order, whole_batches
from keras_fdr.data import TrainingSet
from keras_fdr.full_batch.passes import FullBatchPass
from keras_fdr.landscape.arguments import (
    Stage,
    check_dynamics,
    check_full_batch_every,
    check_initial,
    check_mode,
    check_seeds,
    check_stages,
)
from keras_fdr.landscape.compiled_loop import CompiledLoop
from keras_fdr.landscape.curvature import CurvatureSampler, check_batch_size
from keras_fdr.landscape.results import SweepResults
from keras_fdr.landscape.rows import SweepRow
from keras_fdr.landscape.store import EpochBar, Store
from keras_fdr.optimizer.lookup import measuring_optimizer
from keras_fdr.record import Record
from keras_fdr.snapshot import State

# This many times the curvature is drawn at each full-batch pass.
_CURVATURE_DRAWS = 16
# This many points of each half-running average are kept for figure 2.
_SERIES_POINTS = 100


def sweep(
    model: keras.Model,
    dataset: Any,
    stages: Sequence[Stage],
    seeds: int | Sequence[int] = 4,
    batch_size: int = 100,
    initial: Stage | None = None,
    mode: str = "independent",
    full_batch_every: int = 1,
    directory: str | os.PathLike[str] | None = None,
    verbose: int = 1,
    progress: Callable[[int], object] | None = None,
) -> SweepResults:
    """Trains through a sequence of learning rates and measures FDR2 at each.

    This is the protocol of appendices B.1 and B.2 of the paper. All seeds share one
    initial run. Then follow the stages, each with a learning rate η and a number of
    epochs. A stage starts where the last one ended, with the velocity v set to 0. The
    seeds differ only in their mini-batches. The numbers of a stage are averages over
    its newest half. There one full-batch pass an epoch measures the gradient ∇f of the
    whole loss f (or fewer passes, see `full_batch_every`).

    There are two modes:

    - `"independent"`: each mini-batch is drawn independently of all others. The passes
      are at random steps, one an epoch. FDR2 holds in this mode.
    - `"paper"`: the data are reshuffled in each epoch, and the passes are at the ends
      of epochs. The mini-batches of one epoch are then anti-correlated, and the passes
      always come after a whole shuffle. So at small η, O_FB (the left side of FDR2)
      comes out too small, or even negative.

    In both modes |∇f|² is that of the passes. v·∇f is the average of v(t)·∇f^B over
    all steps (footnote 5), where ∇f^B is the mini-batch gradient. For independent
    mini-batches it has the same mean as v·∇f at the passes, and far less noise.

    The model is left as it was found.

    Example:

    >>> import keras, numpy as np
    >>> from keras_fdr import FDRSGD, landscape
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer=FDRSGD(l2=0.1), loss="mse")
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(40, 2)), rng.normal(size=(40, 1))
    >>> results = landscape.sweep(
    ...     model, (x, y), stages=[(0.1, 20), (0.05, 20)], seeds=2, batch_size=4,
    ...     verbose=0)
    >>> len(results.rows)
    4
    >>> found = landscape.fit(results)
    >>> found.learning_rates
    (0.05, 0.1)

    Args:
        model: A `keras.Model` compiled with `FDRSGD`.
        dataset: The training set: a tuple of arrays `(x, y)` or
            `(x, y, sample_weight)`, or a `tf.data.Dataset` of such batches, which is
            read into memory.
        stages: List of `(learning_rate, epochs)`, in the order to run, with at least
            3 epochs. An epoch is examples // batch_size steps.
        seeds: Integer, the number of seeds, or a list of integers. Confidence intervals
            need at least 2. Defaults to `4`.
        batch_size: Integer, the examples of a mini-batch. Defaults to `100`.
        initial: `(learning_rate, epochs)` of the initial run, or `None` to start
            from the present weights. Defaults to `None`.
        mode: `"independent"` or `"paper"`. Defaults to `"independent"`.
        full_batch_every: Integer, at least 1: epochs from one full-batch pass to the
            next, counted back from the last. A stage needs two in its newest half.
            Defaults to `1`, as in the paper.
        directory: Where to keep the table (`sweep.json`) and the weights after each
            finished stage. The same call with the same directory resumes after the
            last finished stage. Defaults to `None`: nothing is kept.
        verbose: Integer. Above 0 a progress bar with the time left is shown.
            Defaults to `1`.
        progress: Function that is called with a number of epochs whenever so many have
            ended. Epochs of an earlier call with the same directory count, too. Use it
            for one display of several processes with separate seeds.
            Defaults to `None`.

    Returns:
        `SweepResults`, to pass to `fit`.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If an argument is out of range; if the optimizer is not an `FDRSGD`,
            or changes the gradient (by clipping or accumulation); or if `directory`
            holds a sweep with other settings.
        FloatingPointError: If the weights diverge at one of the learning rates.

    Reference:
        [Yaida, 2019](https://arxiv.org/abs/1810.00004), appendix B.
    """
    stages, seeds = check_stages(stages), check_seeds(seeds)
    initial, mode = check_initial(initial), check_mode(mode)
    batch_size = check_integer("batch_size", batch_size, 1)
    full_batch_every = check_full_batch_every(full_batch_every, stages)
    verbose = check_verbosity(verbose)
    check_callable("progress", progress, "a function of a number of epochs, or None")
    if directory is not None:
        check_path("directory", directory, "directory")
    run = _Run(model, dataset, batch_size, mode, full_batch_every)
    settings = {
        "mode": mode,
        "full_batch_every": full_batch_every,
        "stages": [list(stage) for stage in stages],
        "initial": initial and list(initial),
        "seeds": seeds,
        "batch_size": batch_size,
        **run.settings,
    }
    store = Store(directory, settings)
    try:
        everything = State(run.variables, model.distribute_strategy)
        bar = EpochBar(settings, verbose, progress)
        return _run_all(run, store, stages, initial, seeds, bar, everything)
    finally:
        store.close()


def _run_all(
    run: "_Run",
    store: Store,
    stages: Sequence[Stage],
    initial: Stage | None,
    seeds: list[int],
    bar: EpochBar,
    everything: State,
) -> SweepResults:
    """Trains the stages that are not in the store yet, then restores the model."""
    try:
        start = store.load("initial")
        if start is None:
            if initial:
                rate, epochs = initial
                run.stage(rate, epochs, 0, 0, False, bar)
            start = run.weights()
            store.save("initial", start)
        elif initial:
            bar.add(initial[1])
        for seed in seeds:
            done, weights = store.finished_stages(seed)
            run.set_weights(start if weights is None else weights)
            for number, (rate, epochs) in enumerate(stages):
                if number < done:
                    bar.add(epochs)
                    continue
                row = run.stage(rate, epochs, seed, number + 1, True, bar)
                store.add(SweepRow(seed, number, **row), run.weights())
    finally:
        everything.restore()
    return store.results


class _Run:
    """Takes one model through the stages."""

    def __init__(
        self,
        model: keras.Model,
        dataset: Any,
        batch_size: int,
        mode: str,
        full_batch_every: int,
    ) -> None:
        self._model = model
        self._optimizer = optimizer = measuring_optimizer(model, "sweep")
        if optimizer is not model.optimizer:
            _compat.open_loss_scaling(model.optimizer)
        check_dynamics(optimizer)
        self._data = data = TrainingSet.of(dataset, in_memory=True)
        self._pass = FullBatchPass(model, data)
        if not optimizer.built:
            optimizer.build(model.trainable_variables)
        self._loop = CompiledLoop(model, data)
        check_batch_size(batch_size, data.examples)
        self._curvature = CurvatureSampler(model, data, batch_size)
        self._batch_size = batch_size
        self._full_batch_every = full_batch_every
        self._independent = mode == "independent"
        self.steps_per_epoch = data.examples // batch_size

    @property
    def settings(self) -> dict[str, Any]:
        optimizer = self._optimizer
        return {
            "examples": self._data.examples,
            "data": self._data.checksum(),
            "momentum": optimizer.momentum,
            "dampening": optimizer.dampening,
            "l2": optimizer.l2,
            "shapes": [list(v.shape) for v in self._model.variables],
        }

    @property
    def variables(self) -> list[Any]:
        """Everything that a sweep changes."""
        optimizer, outer = self._optimizer, self._model.optimizer
        return [
            *self._model.variables,
            *self._model.metrics_variables,
            *optimizer.variables,
            *optimizer.observables.variables,
            *(v for v in outer.variables if outer is not optimizer),
        ]

    def weights(self) -> list[np.ndarray]:
        return [v.numpy() for v in self._model.variables]

    def set_weights(self, values: list[np.ndarray]) -> None:
        for variable, value in zip(self._model.variables, values, strict=True):
            variable.assign(value)

    def stage(
        self,
        learning_rate: float,
        epochs: int,
        seed: int,
        stage: int,
        measure: bool,
        progress: EpochBar,
    ) -> dict[str, Any]:
        """Trains at one learning rate. Returns the row of the table, or nothing."""
        optimizer = self._optimizer
        optimizer.learning_rate = learning_rate
        optimizer.reset_velocities()
        measured, at_step = [], []
        every = self._full_batch_every
        for epoch in range(epochs):
            rng = np.random.default_rng([seed, stage, epoch])
            batches, at = self._epoch(rng)
            self._loop.run(batches, 0, at)
            last_ones = epoch >= epochs // 2
            if measure and last_ones and (epochs - 1 - epoch) % every == 0:
                measured.append(self._measure(rng))
                at_step.append(epoch * self.steps_per_epoch + at)
            self._loop.run(batches, at)
            progress.add(1)
        record = optimizer.observables.record()
        if not np.isfinite(record.sums).all():
            raise FloatingPointError(
                "The weights must stay finite. Start the sweep at a smaller learning "
                f"rate. Received: NaN or infinity at learning_rate={learning_rate}"
            )
        return self._row(learning_rate, record, measured, at_step) if measure else {}

    def _epoch(self, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """The batches of one epoch, and the step before which the pass comes."""
        examples, steps = self._data.examples, self.steps_per_epoch
        if not self._independent:
            order = reshuffled_order(rng, examples)
            return whole_batches(order, self._batch_size), steps
        at = int(rng.integers(1, steps + 1))
        return independent_batches(rng, examples, self._batch_size, steps), at

    def _measure(self, rng: np.random.Generator) -> list[float]:
        optimizer = self._optimizer
        row = optimizer.measure_full_batch(self._pass(gradient=True)).numpy()
        curvature = self._curvature.draw(
            rng,
            _CURVATURE_DRAWS,
            optimizer.velocities,
            optimizer.momentum,
            optimizer.dampening,
        )
        return [*row, *curvature.mean(axis=0)]

    def _row(
        self,
        learning_rate: float,
        record: Record,
        measured: list[list[float]],
        at_step: list[int],
    ) -> dict[str, Any]:
        names = (
            "full_batch_loss",
            "full_batch_gradient_norm_squared",
            "full_batch_velocity_gradient",
            "full_batch_dissipation",
            "noise_curvature",
            "velocity_curvature",
        )
        row = dict(zip(names, map(float, np.mean(measured, axis=0)), strict=True))
        fall = -np.polyfit(at_step, np.array(measured)[:, 0], 1)[0]
        row["full_batch_drift"] = float(fall / learning_rate)
        for name in ("dissipation", "fluctuation", "gradient_norm_squared"):
            row[name] = record.half_running_average(name)
        # The passes are too few for v·∇f: its mean over all steps is far less noisy.
        v_g = record.half_running_average("velocity_gradient")  # footnote 5
        mu, nu = self._optimizer.momentum, self._optimizer.dampening
        norm_squared = row["full_batch_gradient_norm_squared"]
        row["full_batch_velocity_gradient"] = v_g
        row["full_batch_dissipation"] = (1 - nu) * norm_squared - mu * v_g
        return {
            "learning_rate": float(learning_rate),
            "steps": record.steps,
            "passes": len(measured),
            **row,
            "series": _thin_series(record),
        }


def _thin_series(record: Record) -> dict[str, list[float]]:
    steps, dissipation = record.series("dissipation")
    _, fluctuation = record.series("fluctuation")
    # The points are evenly spaced on the logarithmic axis of figure 2.
    wanted = np.geomspace(1, len(steps), _SERIES_POINTS).round().astype(int) - 1
    kept = np.unique(wanted)
    return {
        "steps": steps[kept].tolist(),
        "dissipation": [float(f"{value:.5g}") for value in dissipation[kept]],
        "fluctuation": [float(f"{value:.5g}") for value in fluctuation[kept]],
    }
