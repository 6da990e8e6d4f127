"""Tables of sweeps with made-up numbers."""

from keras_fdr import landscape


def table(
    rates=(0.1, 0.2, 0.3, 0.4),
    seeds=(0, 1, 2),
    o_fb=lambda rate, seed: 3 * rate,
    velocity_curvature=lambda rate, seed: 6.0,
    noise_curvature=lambda rate, seed: 7.0,
    second_moment=lambda rate, seed: 2.0,
    drift=lambda rate, seed: 0.0,
    mu=0.0,
    nu=0.0,
):
    rows = [
        {
            "seed": seed,
            "stage": stage,
            "learning_rate": rate,
            "full_batch_dissipation": o_fb(rate, seed),
            "velocity_curvature": velocity_curvature(rate, seed),
            "noise_curvature": noise_curvature(rate, seed),
            "gradient_norm_squared": second_moment(rate, seed),
            "full_batch_drift": drift(rate, seed) * o_fb(rate, seed),
            "dissipation": 5.0 + seed,
            "fluctuation": (5.0 + seed) / 0.9,
        }
        for seed in seeds
        for stage, rate in enumerate(rates)
    ]
    settings = {"mode": "independent", "momentum": mu, "dampening": nu}
    return landscape.SweepResults(settings, rows)


def of_residuals(*residuals, spread=0.001, drift=lambda rate, seed: 0.0):
    """The fit of a sweep with such residuals at η = 0.1, 0.2, …"""
    rates = [round(0.1 * (i + 1), 1) for i in range(len(residuals))]
    known = dict(zip(rates, residuals, strict=True))

    def o_fb(rate, seed):
        return rate / 2 * 6 * (1 + known[rate] + spread * (seed - 1))

    return landscape.fit(table(rates, o_fb=o_fb, drift=drift))
