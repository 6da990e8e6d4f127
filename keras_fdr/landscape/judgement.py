"""Where the harmonic approximation holds, and which stages were stationary."""

from collections.abc import Sequence

import numpy as np

from keras_fdr.landscape.estimates import Estimate

# If O_FB is within this share of (η/2)⟨vᵀHv⟩, the loss counts as harmonic.
MARGIN = 0.1
# If a larger share of O_FB comes from a loss f that still falls, the stage was not
# stationary.
STATIONARY_WITHIN = 0.05
# In a stationary state the two sides of FDR1 are within this share of each other.
EQUILIBRATED_WITHIN = 0.05


def is_stationary(drift: Estimate) -> bool:
    """Whether the share of O_FB that comes from a falling loss is small.

    Args:
        drift: An `Estimate`, of `Landscape.drift`.
    """
    return abs(drift.value) < STATIONARY_WITHIN


def is_equilibrated(drift: Estimate, ratio: Estimate) -> bool:
    """Whether a stage was stationary, as far as this can be known.

    The drift must be small, and the ratio of the two sides of FDR1 must not be shown to
    differ from 1. At small η the left side is noisy, so the ratio alone tells little.
    It counts as different from 1 only if its whole interval is beyond 1 ± 5%. Without
    an interval the ratio itself counts.

    Args:
        drift: An `Estimate`, of `Landscape.drift`.
        ratio: An `Estimate`, of `Landscape.ratio`.
    """
    low, high = (ratio.value,) * 2 if np.isnan(ratio.low) else ratio[1:]
    off = low > 1 + EQUILIBRATED_WITHIN or high < 1 - EQUILIBRATED_WITHIN
    return is_stationary(drift) and not off


def is_harmonic(residual: Estimate) -> bool:
    """Whether O_FB is shown to be what a quadratic loss gives, to `MARGIN`.

    Args:
        residual: An `Estimate`, of `Landscape.residual`.
    """
    return residual.low > -MARGIN and residual.high < MARGIN


def is_anharmonic(residual: Estimate) -> bool:
    """Whether O_FB is shown to differ from what a quadratic loss gives.

    Args:
        residual: An `Estimate`, of `Landscape.residual`.
    """
    return residual.high < -MARGIN or residual.low > MARGIN


def describe(
    eta: np.ndarray, residual: Sequence[Estimate], drifts: Sequence[Estimate], mode: str
) -> str:
    """Says in words at which learning rates the harmonic approximation holds.

    Args:
        eta: Float array, the learning rates, ascending.
        residual: The `Estimate` of `Landscape.residual` at each.
        drifts: The `Estimate` of `Landscape.drift` at each.
        mode: `"independent"` or `"paper"`, how batches were drawn.
    """
    if any(np.isnan(r.low) for r in residual):
        return (
            "No verdict: one seed gives no interval. Run the sweep with at least two "
            "seeds, or better four."
        )
    if mode == "paper":
        return (
            "No verdict: with one shuffle an epoch, O_FB is too small, most at small "
            'learning rates. Run the sweep with mode="independent".'
        )
    groups: dict[str, list[str]] = {}
    for rate, r, drift in zip(eta, residual, drifts, strict=True):
        if not is_stationary(drift):
            group = "is not judged"
        elif is_harmonic(r):
            group = "holds"
        else:
            group = "fails" if is_anharmonic(r) else "is undecided"
        groups.setdefault(group, []).append(f"{rate:.4g}")
    parts = [f"{name} at {', '.join(rates)}" for name, rates in groups.items()]
    verdict = f"To {MARGIN:.0%}, the harmonic approximation {'; it '.join(parts)}."
    if "is undecided" in groups:
        verdict += " More seeds or longer stages narrow the intervals."
    if "is not judged" in groups:
        verdict += (
            " Stages are not judged if more than "
            f"{STATIONARY_WITHIN:.0%} of O_FB came from a loss that still drifted: "
            "train longer there."
        )
    return verdict
