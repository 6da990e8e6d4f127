"""What the noise of SGD tells about the loss landscape, by the relation FDR2."""

from keras_fdr.landscape.curvature import noise_curvature, velocity_curvature
from keras_fdr.landscape.estimates import Estimate
from keras_fdr.landscape.regression import Landscape, fit
from keras_fdr.landscape.results import SweepResults
from keras_fdr.landscape.rows import SweepRow
from keras_fdr.landscape.sweeps.protocol import sweep

__all__ = [
    "Estimate",
    "Landscape",
    "SweepResults",
    "SweepRow",
    "fit",
    "noise_curvature",
    "sweep",
    "velocity_curvature",
]
