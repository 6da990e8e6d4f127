"""The full-batch passes of `FDRCallback`."""

from keras_fdr.data import as_batches
from keras_fdr.full_batch import FullBatchPass


class EpochPasses:
    """Goes through the training set at the end of epochs and fills the logs.

    Args:
        dataset: What `FullBatchPass` takes.
        every: Integer, epochs from one pass to the next.
    """

    def __init__(self, dataset, every):
        self._batches = as_batches(dataset)
        self._every = every
        self._pass: FullBatchPass | None = None

    def fresh(self):
        """The same passes over the same dataset, for another model."""
        return EpochPasses(self._batches, self._every)

    def prepare(self, model, verbose):
        """Makes the pass for a model that is about to train.

        Args:
            model: The compiled `keras.Model`.
            verbose: Boolean, whether long passes show their progress.
        """
        if self._pass is None or not self._pass.is_current(model):
            self._pass = FullBatchPass(model, self._batches)
        self._pass.verbose = int(verbose)

    def logs(self, epoch, optimizer):
        """The columns for the logs of this epoch's end.

        In an epoch without a pass they are NaN rather than missing: `CSVLogger`
        takes its columns from the first epoch.
        """
        full_batch_pass = self._pass
        assert full_batch_pass is not None, "`prepare` comes first"
        if (epoch + 1) % self._every:
            metrics = full_batch_pass.metric_names
            names = ["loss", "gradient_norm", "dissipation", *metrics]
            return {f"full_batch_{name}": float("nan") for name in names}
        result = full_batch_pass(gradient=True)
        optimizer.measure_full_batch(result)
        average = optimizer.observables.full_batch_record().half_running_average
        measured = {
            "loss": result.loss,
            "gradient_norm": result.gradient_norm,
            "dissipation": average("full_batch_dissipation"),
            **result.metrics,
        }
        return {f"full_batch_{name}": value for name, value in measured.items()}
