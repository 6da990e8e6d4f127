"""The paper's sequential runs over learning rates."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_fdr import _compat
from keras_fdr.batches import independent_batches, reshuffled_order, whole_batches
from keras_fdr.data import as_arrays, checksum
from keras_fdr.full_batch.passes import FullBatchPass
from keras_fdr.landscape.arguments import Stage, check_arguments, check_dynamics
from keras_fdr.landscape.compiled_loop import CompiledLoop
from keras_fdr.landscape.curvature import CurvatureSampler, check_batch_size
from keras_fdr.landscape.results import SweepResults
from keras_fdr.landscape.rows import SweepRow
from keras_fdr.landscape.store import Progress, Store
from keras_fdr.optimizer.sgd import measuring_optimizer
from keras_fdr.record import Record
from keras_fdr.snapshot import State

# Draws of the curvature at each full-batch pass.
_CURVATURE_DRAWS = 16
# Points of each half-running average that are kept for figure 2.
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

    The protocol of appendices B.1 and B.2: one initial run that all seeds share, then
    stage after stage of (η, epochs), each from where the last one ended, with the
    velocity set to 0 in between. Seeds differ in their mini-batches only. Each
    stage's numbers are averages over its newest half, with one full-batch pass an
    epoch there (or fewer, see `full_batch_every`).

    Two modes:

    - `"independent"`: each mini-batch is drawn independently of all others and the
      passes are at random steps, one an epoch; v·∇f is measured with the full-batch
      gradient. FDR2 holds.
    - `"paper"`: the data are reshuffled each epoch, the passes are at the epochs'
      ends, and v·∇f is the average of v(t)·∇f^B over steps (footnote 5). Mini-batches
      of one epoch are then anti-correlated, and the passes locked to the shuffle:
      at small η O_FB comes out too small, even negative.

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
            `(x, y, sample_weight)`, or a `tf.data.Dataset` of batches of that form,
            which is read into memory.
        stages: List of `(learning_rate, epochs)`, in the order to run, with at least
            3 epochs. An epoch is examples // batch_size steps.
        seeds: Integer, the number of seeds, or a list of integers. Intervals need at
            least 2. Defaults to `4`.
        batch_size: Integer, |B|. Defaults to `100`.
        initial: `(learning_rate, epochs)` of the initial run, or `None` to start
            from the present weights. Defaults to `None`.
        mode: `"independent"` or `"paper"`. Defaults to `"independent"`.
        full_batch_every: Integer, at least 1: epochs from one full-batch pass to the
            next, counted back from the last. A stage needs two in its newest half.
            Defaults to `1`, as in the paper.
        directory: Where to keep the table (`sweep.json`) and the weights after each
            finished stage. The same call with the same directory goes on after the
            last finished stage. Defaults to `None`, nothing is kept.
        verbose: Integer; above 0 a progress bar with the time left is shown.
            Defaults to `1`.
        progress: Function that is called with a number of epochs whenever as many are
            done, also by an earlier call with the same directory: for a display over
            several processes, each with seeds of its own. Defaults to `None`.

    Returns:
        `SweepResults`, to pass to `fit`.

    Raises:
        TypeError: If `model` or `dataset` is of another type.
        ValueError: If an argument is out of range, the optimizer is no `FDRSGD` or
            changes the gradient (clipping, accumulation), or `directory` holds a
            sweep with other settings.
        FloatingPointError: If the weights diverge at one of the learning rates.

    Reference:
        [Yaida, 2019](https://arxiv.org/abs/1810.00004), appendix B.
    """
    seeds = [int(s) for s in (seeds if isinstance(seeds, Iterable) else range(seeds))]
    batch_size = int(batch_size)
    check_arguments(stages, seeds, initial, mode, full_batch_every)
    full_batch_every = int(full_batch_every)
    run = _Run(model, dataset, batch_size, mode, full_batch_every)
    settings = {
        "mode": mode,
        "full_batch_every": full_batch_every,
        "stages": [[float(rate), int(epochs)] for rate, epochs in stages],
        "initial": initial and [float(initial[0]), int(initial[1])],
        "seeds": seeds,
        "batch_size": batch_size,
        **run.settings,
    }
    store = Store(directory, settings)
    try:
        everything = State(run.variables, model.distribute_strategy)
        bar = Progress(settings, verbose, progress)
        return _run_all(run, store, stages, initial, seeds, bar, everything)
    finally:
        store.close()


def _run_all(
    run: "_Run",
    store: Store,
    stages: Sequence[Stage],
    initial: Stage | None,
    seeds: list[int],
    bar: Progress,
    everything: State,
) -> SweepResults:
    """Trains what is not in the store yet, and leaves the model as it was."""
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
    """One model on its way through the stages."""

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
        arrays = as_arrays(dataset)  # One copy for all three.
        self._pass = FullBatchPass(model, arrays)
        if not optimizer.built:
            optimizer.build(model.trainable_variables)
        self._loop = CompiledLoop(model, arrays)
        check_batch_size(batch_size, self._loop.examples)
        self._curvature = CurvatureSampler(model, arrays, batch_size)
        self._batch_size = batch_size
        self._full_batch_every = full_batch_every
        self._independent = mode == "independent"
        self.steps_per_epoch = self._loop.examples // batch_size

    @property
    def settings(self) -> dict[str, Any]:
        optimizer = self._optimizer
        return {
            "examples": self._loop.examples,
            "data": checksum(self._loop.arrays),
            "momentum": optimizer.momentum,
            "dampening": optimizer.dampening,
            "l2": optimizer.l2,
            "shapes": [list(v.shape) for v in self._model.variables],
        }

    @property
    def variables(self) -> list[Any]:
        """All that a sweep changes."""
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
        progress: Progress,
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
                "The weights must stay finite: start the sweep at a smaller learning "
                f"rate. Received: NaN or infinity at learning_rate={learning_rate}"
            )
        return self._row(learning_rate, record, measured, at_step) if measure else {}

    def _epoch(self, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """The batches of one epoch, and the step before which the pass comes."""
        examples, steps = self._loop.examples, self.steps_per_epoch
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
        if not self._independent:
            mu, nu = self._optimizer.momentum, self._optimizer.dampening
            norm_squared = row["full_batch_gradient_norm_squared"]
            v_g = record.half_running_average("velocity_gradient")  # footnote 5
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
    # Evenly over a logarithmic axis, on which figure 2 is drawn.
    wanted = np.geomspace(1, len(steps), _SERIES_POINTS).round().astype(int) - 1
    kept = np.unique(wanted)
    return {
        "steps": steps[kept].tolist(),
        "dissipation": [float(f"{value:.5g}") for value in dissipation[kept]],
        "fluctuation": [float(f"{value:.5g}") for value in fluctuation[kept]],
    }
