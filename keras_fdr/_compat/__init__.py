"""Every private name of Keras and TensorFlow that this package uses.

They were checked in Keras 3.14 and 3.15 on TensorFlow 2.20 and 2.21. If a new release
moves one of these names, only this folder must change.
"""

from keras_fdr._compat.assignments import (
    Assignment,
    AssignmentScan,
    assignment_in_call,
)
from keras_fdr._compat.callbacks import (
    backup_files,
    batch_spec,
    begins_iterator,
    fit_call,
    has_sample_weight,
    has_seeds,
    shuffles_arrays,
)
from keras_fdr._compat.datasets import datasets_within
from keras_fdr._compat.distribution import build_from_shapes, check_trainer
from keras_fdr._compat.kernels import cpu_kernels, in_one_launch, xla_compiles
from keras_fdr._compat.losses import (
    LossPart,
    UnfitLossError,
    activity_losses,
    loss_parts,
    parts_of_losses,
)
from keras_fdr._compat.models import (
    build,
    compiled_loss,
    global_seed,
    loss_as_given,
    random_seed,
    takes_training,
    twice_differentiable,
)
from keras_fdr._compat.optimizers import (
    WholeStepOptimizer,
    built_weights,
    called_by_set_state_tree,
    learning_rate_schedule,
    merge_call,
    open_loss_scaling,
)
from keras_fdr._compat.saving import traced_for_saving
from keras_fdr._compat.variables import (
    OptionalInCheckpoints,
    variables_outside_of_traces,
)

__all__ = [
    "Assignment",
    "AssignmentScan",
    "LossPart",
    "OptionalInCheckpoints",
    "UnfitLossError",
    "WholeStepOptimizer",
    "activity_losses",
    "assignment_in_call",
    "backup_files",
    "batch_spec",
    "begins_iterator",
    "build",
    "build_from_shapes",
    "built_weights",
    "called_by_set_state_tree",
    "check_trainer",
    "compiled_loss",
    "cpu_kernels",
    "datasets_within",
    "fit_call",
    "global_seed",
    "has_sample_weight",
    "has_seeds",
    "in_one_launch",
    "learning_rate_schedule",
    "loss_as_given",
    "loss_parts",
    "merge_call",
    "open_loss_scaling",
    "parts_of_losses",
    "random_seed",
    "shuffles_arrays",
    "takes_training",
    "traced_for_saving",
    "twice_differentiable",
    "variables_outside_of_traces",
    "xla_compiles",
]
