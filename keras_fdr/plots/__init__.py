"""The paper's figures from records, histories and sweeps; needs matplotlib."""

from keras_fdr.plots.sweeps import landscape, sequential_runs
from keras_fdr.plots.training import equilibration, schedule

__all__ = ["equilibration", "landscape", "schedule", "sequential_runs"]
