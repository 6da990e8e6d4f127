"""What O_FB at several learning rates tells about the loss landscape.

O_FB is the left side of FDR2, the full-batch dissipation.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from keras_fdr.landscape.estimates import Estimate, mean, minus_one, ratio
from keras_fdr.landscape.judgement import (
    describe,
    is_anharmonic,
    is_harmonic,
    is_stationary,
)
from keras_fdr.landscape.results import SweepResults

# The extrapolation to η → 0 uses this many of the smallest learning rates.
_EXTRAPOLATED_FROM = 3


@dataclass(frozen=True)
class Landscape:
    """What `fit` found. Every number is an `Estimate` with a 95% interval over seeds.

    In the fields below, η is the learning rate, μ the momentum, ν the dampening, v the
    velocity, f the loss over the whole dataset and H its Hessian. C̃ is the second
    moment of the mini-batch gradient. O_FB is the left side of FDR2, and ⟨ ⟩ the
    average over steps.

    Args:
        mode: `"independent"` or `"paper"`, how batches were drawn.
        seeds: Integer, the number of seeds behind the intervals.
        learning_rates: Tuple of floats, η, ascending.
        full_batch_dissipation: Tuple of `Estimate`, ⟨O_FB⟩ at each η.
        slope: ⟨O_FB⟩/η at the smallest η, the slope of the paper's line through the
            origin.
        noise_curvature: Tr(HC̃) in the limit η → 0,
            2 (1−μ²)/(1−ν)² · ⟨O_FB⟩/η: the curvature along the gradient noise. The
            curvature along the velocity is `velocity_curvature`.
        direct_noise_curvature: The same limit of Tr(HC̃), as Hessian-vector products
            measured it along the same runs. It is an independent check.
        velocity_curvature: ⟨vᵀHv⟩ in the limit η → 0, 2 ⟨O_FB⟩/η.
        gradient_second_moment: Tr C̃ in the limit η → 0.
        hessian_magnitude: Tr(HC̃)/Tr C̃ in the limit η → 0: the mean curvature over
            the directions of the noise.
        nonlinearity: Tuple of `Estimate`, ⟨O_FB⟩/(slope·η) − 1 at each η. The paper
            uses this quantity. It also contains the change of C̃ with η, which even a
            quadratic loss has.
        residual: Tuple of `Estimate`, ⟨O_FB⟩/((η/2)⟨vᵀHv⟩) − 1 at each η. It is 0 for
            every quadratic loss, so it shows only anharmonicity. (It also shows kinks
            such as those of ReLU, which change the loss but not the Hessian-vector
            products.) The approximation holds if the interval is within ±10%, fails if
            all of the interval is outside, and is undecided otherwise.
        drift: Tuple of `Estimate`, the share of ⟨O_FB⟩ at each η that comes from a loss
            f that still falls. If it is beyond ±5%, the stage was too short to become
            stationary, and is not judged.
        ratio: Tuple of `Estimate`, the ratio Ō_L/Ō_R of the two sides of FDR1 at each
            η. It tests whether all directions are stationary, also those on which f
            hardly depends.
        extrapolation: String that says how the limit was taken.
        verdict: String that says where the harmonic approximation ends.
    """

    mode: str
    seeds: int
    learning_rates: tuple[float, ...]
    full_batch_dissipation: tuple[Estimate, ...]
    slope: Estimate
    noise_curvature: Estimate
    direct_noise_curvature: Estimate
    velocity_curvature: Estimate
    gradient_second_moment: Estimate
    hessian_magnitude: Estimate
    nonlinearity: tuple[Estimate, ...]
    residual: tuple[Estimate, ...]
    drift: tuple[Estimate, ...]
    ratio: tuple[Estimate, ...]
    extrapolation: str
    verdict: str

    @property
    def harmonic_up_to(self) -> float | None:
        """The largest η up to which the approximation holds, or `None`."""
        held = None
        for rate, residual, drift in self._judged():
            if not (is_stationary(drift) and is_harmonic(residual)):
                break
            held = rate
        return held

    @property
    def anharmonic_from(self) -> float | None:
        """The smallest η at which the approximation fails, or `None`."""
        for rate, residual, drift in self._judged():
            if is_stationary(drift) and is_anharmonic(residual):
                return rate
        return None

    def _judged(self) -> Iterator[tuple[float, Estimate, Estimate]]:
        return zip(self.learning_rates, self.residual, self.drift, strict=True)

    def __repr__(self) -> str:
        return (
            f"Landscape(mode={self.mode!r}, seeds={self.seeds}, "
            f"learning_rates={len(self.learning_rates)}, "
            f"noise_curvature={self.noise_curvature}, "
            f"harmonic_up_to={self.harmonic_up_to})"
        )

    def __str__(self) -> str:
        lines = [
            f"Mode {self.mode}, {self.seeds} seeds; [ ] are 95% intervals over seeds.",
            f"Limits as the learning rate goes to 0, {self.extrapolation}:",
            f"  Tr(HC) by FDR2     {self.noise_curvature}",
            f"  Tr(HC) by products {self.direct_noise_curvature}",
            f"  Tr C               {self.gradient_second_moment}",
            f"  Tr(HC)/Tr C        {self.hessian_magnitude}",
            "",
            f"{'learning rate':>13}  {'O_FB':^32}  {'nonlinearity':^26}  "
            f"{'residual':^26}  drift  FDR1 ratio",
        ]
        rows = zip(
            self.learning_rates,
            self.full_batch_dissipation,
            self.nonlinearity,
            self.residual,
            self.drift,
            self.ratio,
            strict=True,
        )
        for rate, dissipation, nonlinearity, residual, drift, fdr1 in rows:
            lines.append(
                f"{rate:13.4g}  {dissipation!s:^32}  {nonlinearity.percent():^26}  "
                f"{residual.percent():^26}  {drift.value:+.1%}  {fdr1.value:.3f}"
            )
        return "\n".join([*lines, self.verdict])


def fit(results: SweepResults | str | os.PathLike[str]) -> Landscape:
    """Computes properties of the loss landscape from a sweep, by FDR2.

    FDR2 (section 3.2 of the paper) relates averages over the steps t of a stationary
    run:

        (1−ν)⟨|∇f|²⟩ − μ⟨v·∇f⟩ = (η/2) ⟨v(t+1)ᵀ H v(t+1)⟩ + O(η²)

    The left side is ⟨O_FB⟩. Here η is the learning rate, μ the momentum, ν the
    dampening, v the velocity, f the loss over the whole dataset and H its Hessian. Eq.
    (29) of the paper lacks the factor ½. As η → 0, ⟨vᵀHv⟩ → (1−ν)²/(1−μ²) Tr(HC̃), so
    Tr(HC̃) ≈ 2 (1−μ²)/(1−ν)² ⟨O_FB⟩/η. C̃ is the second moment of the mini-batch
    gradient.

    For the limit, a straight line is fitted to ⟨O_FB⟩/η against η at the three smallest
    η, separately for each seed. Its intercept is the limit.

    Example:

    >>> from keras_fdr import landscape
    >>> settings = {"mode": "independent", "momentum": 0.0, "dampening": 0.0}
    >>> rows = [
    ...     landscape.SweepRow(
    ...         seed, stage, rate, full_batch_dissipation=3 * rate,
    ...         velocity_curvature=6.0, noise_curvature=6.0,
    ...         gradient_norm_squared=2.0, full_batch_drift=0.0,
    ...         dissipation=rate, fluctuation=rate)
    ...     for seed in (0, 1) for stage, rate in enumerate((0.1, 0.2))]
    >>> found = landscape.fit(landscape.SweepResults(settings, rows))
    >>> found
    Landscape(mode='independent', seeds=2, learning_rates=2, \
noise_curvature=6 [6, 6], harmonic_up_to=0.2)

    Args:
        results: `SweepResults`, or the path of the file or directory of a sweep.

    Returns:
        A `Landscape`.

    Raises:
        ValueError: If no seed has finished every learning rate.
        TypeError: If `results` is none of these.

    Reference:
        [Yaida, 2019](https://arxiv.org/abs/1810.00004), sections 2.2 and 3.2.
    """
    results = SweepResults.of(results)
    eta = np.array(results.learning_rates)
    dissipation = results.column("full_batch_dissipation")
    if dissipation.size == 0:
        raise ValueError(
            "A landscape needs at least one seed that has finished every learning "
            f"rate. Received: {len(results.rows)} finished runs"
        )
    curvature = results.column("velocity_curvature")
    direct = results.column("noise_curvature")
    second_moment = results.column("gradient_norm_squared")
    left, right = results.column("dissipation"), results.column("fluctuation")
    mu, nu = results.setting("momentum"), results.setting("dampening")

    slopes = _at_zero(eta, dissipation / eta)
    noise = _at_zero(eta, second_moment)
    to_noise = 2 * (1 - mu**2) / (1 - nu) ** 2
    columns = range(len(eta))
    residual = tuple(
        minus_one(ratio(dissipation[:, j], eta[j] / 2 * curvature[:, j]))
        for j in columns
    )
    nonlinearity = tuple(
        minus_one(ratio(dissipation[:, j] / eta[j], dissipation[:, 0] / eta[0]))
        for j in columns
    )
    fall = results.column("full_batch_drift")
    drifts = tuple(ratio(fall[:, j], dissipation[:, j]) for j in columns)
    return Landscape(
        mode=results.setting("mode"),
        seeds=len(dissipation),
        learning_rates=tuple(map(float, eta)),
        full_batch_dissipation=tuple(mean(dissipation[:, j]) for j in columns),
        slope=mean(dissipation[:, 0] / eta[0]),
        noise_curvature=mean(to_noise * slopes),
        direct_noise_curvature=mean(_at_zero(eta, direct)),
        velocity_curvature=mean(2 * slopes),
        gradient_second_moment=mean(noise),
        hessian_magnitude=ratio(to_noise * slopes, noise),
        nonlinearity=nonlinearity,
        residual=residual,
        drift=drifts,
        ratio=tuple(ratio(left[:, j], right[:, j]) for j in columns),
        extrapolation=_describe_limit(eta),
        verdict=describe(eta, residual, drifts, results.setting("mode")),
    )


def _at_zero(eta: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The limit η → 0 of each row of `values`."""
    used = slice(0, _EXTRAPOLATED_FROM)
    if len(eta) == 1:
        return values[:, 0]
    design = np.stack([np.ones_like(eta[used]), eta[used]], axis=1)
    return np.linalg.lstsq(design, values[:, used].T, rcond=None)[0][0]


def _describe_limit(eta: np.ndarray) -> str:
    if len(eta) == 1:
        return f"not extrapolated: at the only learning rate, {eta[0]:.4g}"
    used = ", ".join(f"{rate:.4g}" for rate in eta[:_EXTRAPOLATED_FROM])
    return f"extrapolated by a straight line in the learning rate from {used}"
