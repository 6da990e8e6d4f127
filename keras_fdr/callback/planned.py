"""What the planned epochs let FDR1 say."""

import dataclasses
import math

import keras

from keras_fdr import _compat
from keras_fdr.callback.columns import rate_of
from keras_fdr.measured import Measured
from keras_fdr.optimizer.sgd import FDRSGD
from keras_fdr.rules.relaxation import SETTLED, relaxation_steps
from keras_fdr.rules.verdict import Verdict


def relaxation_of(model: keras.Model, optimizer: Measured) -> float:
    """τ of a model, from the L2 term of its optimizer and regularisers.

    Args:
        model: The compiled `keras.Model`.
        optimizer: Its `FDRSGD` or `MeasuredOptimizer`.

    Returns:
        Float, in steps, for the weights with the smallest λ above 0; infinity where
        there is no L2, where the rate follows a schedule or is 0, and where the
        optimizer rescales the L2 term with the gradient, as Adam does.
    """
    rate = rate_of(optimizer)
    if rate is None or not rate > 0:
        return math.inf
    if _compat.learning_rate_schedule(optimizer) is not None:
        return math.inf
    # Keras' own L2 is without the factor ½.
    regularizers = [getattr(w, "regularizer", None) for w in model.trainable_weights]
    each = [optimizer.l2 + 2 * float(getattr(r, "l2", 0)) for r in regularizers]
    l2 = min((value for value in each if value > 0), default=0.0)
    if isinstance(optimizer, FDRSGD):
        return relaxation_steps(rate, l2, optimizer.momentum, optimizer.dampening)
    if optimizer.weight_decay:
        # Decoupled decay has no memory: θ ← (1 − ηλ) θ in each step.
        return relaxation_steps(rate, optimizer.weight_decay, 0.0, 0.0)
    if type(optimizer.optimizer) is keras.optimizers.SGD:
        return relaxation_steps(rate, l2, optimizer.momentum, 0.0)
    return math.inf


def note_on_plan(tau: float, epochs: int | None, steps: int | None) -> str | None:
    """What to know when training is too short for the ratio to settle.

    Args:
        tau: Float, the relaxation time in steps.
        epochs: Integer, the planned epochs, or `None` where they are not known.
        steps: Integer, the steps of an epoch, or `None`.

    Returns:
        String, or `None` if the plan is long enough or not known.
    """
    if not (epochs and steps and math.isfinite(tau)) or epochs * steps >= SETTLED * tau:
        return None
    return (
        f"The planned {epochs * steps:,} steps are only {epochs * steps / tau:.2g} "
        f"times {tau:,.0f} steps, the time in which the L2 term relaxes the norm of "
        f"the weights. The ratio of FDR1 settles near 1 after about {SETTLED} such "
        "times. A ratio near 1 before that may only be passing through 1, so cuts may "
        "come too early or never. Take a larger learning rate or L2 term, end the run "
        "with `FDRCallback(final_decay=FinalDecay())`, or only measure with "
        "`factor=None`."
    )


def with_relaxation(verdict: Verdict, tau: float) -> Verdict:
    """Adds to a verdict's reason how long the record is, compared with τ.

    Args:
        verdict: A `Verdict`.
        tau: Float, the relaxation time in steps.

    Returns:
        The `Verdict`. It is returned unchanged if the record is long enough, if nothing
        is decided, or if τ is not known.
    """
    if verdict.status == "undecided" or not verdict.steps < SETTLED * tau < math.inf:
        return verdict
    reason = (
        f"{verdict.reason} The record is {verdict.steps / tau:.2g} relaxation times of "
        f"the weights' norm long ({tau:,.0f} steps each); before about {SETTLED}, a "
        "ratio near 1 may be passing through 1."
    )
    return dataclasses.replace(verdict, reason=reason)
