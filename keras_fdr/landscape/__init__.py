"""FDR2: what SGD's own noise says of the loss landscape."""

from keras_fdr.landscape.curvature import noise_curvature, velocity_curvature
from keras_fdr.landscape.estimates import Estimate
from keras_fdr.landscape.protocol import sweep
from keras_fdr.landscape.regression import Landscape, fit
from keras_fdr.landscape.results import SweepResults
from keras_fdr.landscape.rows import SweepRow

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
