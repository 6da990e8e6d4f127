"""What a report says of a run, in words. Plain Python."""

import math
from typing import Any

from keras_fdr.rules import Verdict

# A ratio closer to 1 than this is called "about 1".
NEAR = 0.1


def meaning(ratio: float) -> str:
    """What the ratio of the two sides of FDR1 says.

    Args:
        ratio: Float, dissipation over fluctuation.

    Returns:
        A sentence.
    """
    if math.isnan(ratio):
        return "The ratio is not known."
    if ratio < 0:
        return "The ratio is negative: the loss itself pushes the weights outward."
    if ratio < 1 - NEAR:
        return "The ratio is below 1: the weights still grow."
    if ratio <= 1 + NEAR:
        return "The ratio is about 1: the run may be stationary at this learning rate."
    return "The ratio is above 1: the size of the weights still shrinks."


def what_to_do(ratio: float, verdict: Verdict | None, callback: Any) -> str:
    """What a person can do next.

    Args:
        ratio: Float, dissipation over fluctuation.
        verdict: The newest `Verdict`, or `None`.
        callback: The `FDRCallback`, or `None`.

    Returns:
        One or two sentences.
    """
    if verdict is not None and verdict.stationary:
        return _after_stationary(callback)
    if math.isnan(ratio):
        return "Train with `FDRCallback` for at least one epoch, then look again."
    if ratio < 1 - NEAR and callback is not None and not callback.factor:
        return (
            "Keep to the schedule that was planned. The ratio says nothing yet about "
            "when to lower the learning rate."
        )
    if ratio < 0:
        return (
            "Do not expect a cut. Plan the decay of the learning rate with "
            "`FinalDecay`, or only measure with `factor=None`."
        )
    if ratio < 1 - NEAR:
        return (
            "Train longer. For a stationary state, raise the L2 coefficient or the "
            "learning rate. Otherwise plan the decay with `FinalDecay`."
        )
    if ratio <= 1 + NEAR:
        return "Train longer, and let the rule decide when the learning rate is cut."
    return "Train longer: this learning rate still has work to do."


def _after_stationary(callback: Any) -> str:
    done = "This learning rate has done its work."
    if callback.final_decay:
        return f"{done} The final decay of the rate follows, and training ends with it."
    if callback.factor:
        return (
            f"{done} `FDRCallback` lowers it unless it is at `min_lr`. Train on while "
            "cuts still lower the loss."
        )
    return f"{done} Lower it to get further, or end training."


def settings_of(optimizer: Any) -> dict[str, str]:
    """The settings of an optimizer that are not at "off".

    Args:
        optimizer: A Keras optimizer.

    Returns:
        Dictionary from name to value, as text.
    """
    config = optimizer.get_config()
    hidden = {"name", "learning_rate"}
    if not config.get("use_ema"):
        hidden |= {"ema_momentum", "ema_overwrite_frequency"}
    return {
        name: shown(value)
        for name, value in config.items()
        if name not in hidden
        and isinstance(value, (int, float, str))
        and value is not False
    }


def shown(value: Any) -> str:
    """A setting as text, numbers with at most five digits."""
    if isinstance(value, float):
        return f"{value:.5g}"
    return value if isinstance(value, str) else repr(value)
