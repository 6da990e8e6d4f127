"""How long weight decay takes to relax the norm of the weights."""

import math

from keras_fdr.arguments import check_number

# The ratio of FDR1 settles near 1 only after about this many relaxation times.
SETTLED = 10


def relaxation_steps(
    learning_rate: float, l2: float, momentum: float = 0.0, dampening: float = 0.0
) -> float:
    """The steps in which the L2 term alone relaxes |θ|², the squared norm.

        τ = (1−μ) / (2 η λ (1−ν))

    with the learning rate η, the momentum μ, the dampening ν, and λ of the term ½λ|θ|².
    In the time τ the L2 term alone shrinks |θ|² by the factor e. Where λ is small, the
    dissipation of FDR1 is nearly all λ|θ|², and then

        ratio ≈ 1 / (1 + τ d ln|θ|²/dt).

    So the ratio says how fast the norm of the weights changes, compared with τ. It
    stays near 1 only after about 10 τ. A ratio that is near 1 earlier may be passing
    through 1, on its way from above (|θ|² shrinks) to below (|θ|² grows).

    Example:

    >>> relaxation_steps(learning_rate=0.125, l2=0.0078125, momentum=0.5)
    256.0

    Args:
        learning_rate: Float above 0, η.
        l2: Float, at least 0, λ.
        momentum: Float in [0, 1), μ. Defaults to `0.0`.
        dampening: Float in [0, 1), ν. Defaults to `0.0`.

    Returns:
        Float, τ in steps. It is infinite if `l2` is 0.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If an argument is out of range.
    """
    eta = check_number("learning_rate", learning_rate, low=0)
    lam = check_number("l2", l2, low=0, low_allowed=True)
    mu = check_number("momentum", momentum, low=0, high=1, low_allowed=True)
    nu = check_number("dampening", dampening, low=0, high=1, low_allowed=True)
    if lam == 0:
        return math.inf
    return (1 - mu) / (2 * eta * lam * (1 - nu))
