"""Trains one model at one learning rate after the other, and measures each."""

from typing import Any

import keras
import numpy as np

from keras_fdr import _compat
from keras_fdr.batches import independent_batches, reshuffled_order, whole_batches
from keras_fdr.data import TrainingSet
from keras_fdr.full_batch.passes import FullBatchPass
from keras_fdr.landscape.compiled_loop import CompiledLoop
from keras_fdr.landscape.curvature_sampler import CurvatureSampler, check_batch_size
from keras_fdr.landscape.sweeps.arguments import check_dynamics
from keras_fdr.landscape.sweeps.epoch_bar import EpochBar
from keras_fdr.optimizer.lookup import measuring_optimizer
from keras_fdr.record import Record

# This many times the curvature is drawn at each full-batch pass.
CURVATURE_DRAWS = 16
# This many points of each half-running average are kept for figure 2.
_SERIES_POINTS = 100


class StageRunner:
    """Trains a model through stages, each at one learning rate, and measures them.

    Args:
        model: A `keras.Model` compiled with `FDRSGD`.
        dataset: What `sweep` takes.
        batch_size: Integer, the examples of a mini-batch.
        mode: `"independent"` or `"paper"`.
        full_batch_every: Integer, the epochs from one full-batch pass to the next.

    Raises:
        ValueError: As `sweep`.
    """

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
        """What tells this sweep from one on other data or with another optimizer."""
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
        """The present values of all variables of the model."""
        return [v.numpy() for v in self._model.variables]

    def set_weights(self, values: list[np.ndarray]) -> None:
        """Gives the model's variables values that `weights` returned."""
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
        """Trains at one learning rate, from the present weights and velocity 0.

        Args:
            learning_rate: Float.
            epochs: Integer.
            seed: Integer, the seed of the mini-batches.
            stage: Integer, which stage this is. It selects other mini-batches, too.
            measure: Boolean, whether full-batch passes measure the newest half.
            progress: The `EpochBar`, which counts the epochs.

        Returns:
            Dictionary of the numbers of a `SweepRow`. It is empty if `measure` is
            `False`.

        Raises:
            FloatingPointError: If the weights diverge.
        """
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
        """What one full-batch pass and the draws of the curvature give."""
        optimizer = self._optimizer
        row = optimizer.measure_full_batch(self._pass(gradient=True)).numpy()
        curvature = self._curvature.draw(
            rng,
            CURVATURE_DRAWS,
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
