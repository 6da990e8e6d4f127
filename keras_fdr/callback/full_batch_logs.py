"""The full-batch passes of `FDRCallback`."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from keras_fdr import _compat
from keras_fdr.data import TrainingSet
from keras_fdr.full_batch.class_weights import weighted_by_class
from keras_fdr.full_batch.passes import FullBatchPass
from keras_fdr.measured import Measured
from keras_fdr.optimizer.sgd import FDRSGD


class EpochPasses:
    """Goes through the training set at the end of epochs and fills the logs.

    Args:
        dataset: What `FullBatchPass` takes.
        every: Integer, epochs from one pass to the next.
    """

    def __init__(self, dataset: Any, every: int) -> None:
        with _naming_the_argument():
            self._data = TrainingSet.of(dataset)
        self._every = every
        self._class_weight: dict | None = None
        self._pass: FullBatchPass | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "EpochPasses":
        """A copy that shares the data, which nothing changes, and has no pass yet."""
        return EpochPasses(self._data, self._every)

    def prepare(
        self, model: keras.Model, verbose: bool, fit_arguments: dict[str, Any]
    ) -> None:
        """Makes the pass for a model that is about to train.

        Args:
            model: The compiled `keras.Model`.
            verbose: Boolean, whether long passes show their progress.
            fit_arguments: Dictionary of the arguments of the `fit` that is about to
                begin; empty where it was not `fit` that called.

        Raises:
            ValueError: If no pass can be made, or if `fit` weights the examples and
                their weights are not known here.
        """
        class_weight = fit_arguments.get("class_weight")
        if len(self._data.spec) == 3:
            # The weights of the dataset are final, those of the classes included.
            class_weight = None
        elif class_weight is None and _compat.has_sample_weight(fit_arguments):
            raise ValueError(
                "`full_batch` must have the same weights as the data of `fit`, "
                "otherwise the passes measure another loss. Pass "
                "`full_batch=(x, y, sample_weight)`, or a dataset of such batches. "
                "Received: `fit` with a sample_weight, `full_batch` without"
            )
        current = self._pass is not None and self._pass.is_current(model)
        if not current or class_weight != self._class_weight:
            with _naming_the_argument():
                data = self._data
                if class_weight is not None:
                    data = weighted_by_class(data.batches, class_weight)
                self._pass = FullBatchPass(model, data)
            self._class_weight = class_weight
        assert self._pass is not None
        self._pass.verbose = int(verbose)

    def logs(self, epoch: int, optimizer: Measured) -> dict[str, float]:
        """The columns for the logs of this epoch's end.

        In an epoch without a pass they are NaN rather than missing: `CSVLogger`
        takes its columns from the first epoch.
        """
        full_batch_pass = self._pass
        assert full_batch_pass is not None, "`prepare` comes first"
        # FDR2 needs velocities in the paper's form.
        fdr2 = isinstance(optimizer, FDRSGD)
        if (epoch + 1) % self._every:
            names = ["loss", "gradient_norm", *["dissipation"] * fdr2]
            names += full_batch_pass.metric_names
            return {f"full_batch_{name}": float("nan") for name in names}
        result = full_batch_pass(gradient=True)
        measured = {"loss": result.loss, "gradient_norm": result.gradient_norm}
        if fdr2:
            optimizer.measure_full_batch(result)
            average = optimizer.observables.full_batch_record().half_running_average
            measured["dissipation"] = average("full_batch_dissipation")
        measured.update(result.metrics)
        return {f"full_batch_{name}": value for name, value in measured.items()}


@contextlib.contextmanager
def _naming_the_argument() -> Iterator[None]:
    """Says in errors about `dataset` which argument of the callback that is."""
    rule = "`FDRCallback(full_batch=dataset)` needs what `FullBatchPass` takes."
    try:
        yield
    except TypeError as error:
        raise TypeError(f"{rule} {error}") from error
    except ValueError as error:
        raise ValueError(f"{rule} {error}") from error
