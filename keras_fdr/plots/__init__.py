"""The paper's figures, and one by layer, from what was measured; needs matplotlib."""

from keras_fdr.plots.layers import layers
from keras_fdr.plots.sweeps import landscape, sequential_runs
from keras_fdr.plots.training import equilibration, schedule

__all__ = ["equilibration", "landscape", "layers", "schedule", "sequential_runs"]
