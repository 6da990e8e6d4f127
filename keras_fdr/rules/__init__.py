"""Rules that turn a `Record` into a `Verdict`."""

from keras_fdr.rules.by_variable import judge_variables
from keras_fdr.rules.confidence import ConfidenceRule
from keras_fdr.rules.config import Configured
from keras_fdr.rules.distance import DistanceRule
from keras_fdr.rules.drift import DriftRule
from keras_fdr.rules.pflug import PflugRule
from keras_fdr.rules.relaxation import relaxation_steps
from keras_fdr.rules.threshold import ThresholdRule
from keras_fdr.rules.two_looks import TwoLooksRule
from keras_fdr.rules.verdict import Verdict, blocking_reason

__all__ = [
    "ConfidenceRule",
    "Configured",
    "DistanceRule",
    "DriftRule",
    "PflugRule",
    "ThresholdRule",
    "TwoLooksRule",
    "Verdict",
    "blocking_reason",
    "judge_variables",
    "relaxation_steps",
]
