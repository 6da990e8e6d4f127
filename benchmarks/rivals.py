"""Time of a PyTorch step with another package's monitor on, over one without.

    python -m venv rivals
    rivals/bin/pip install torch physfdt cockpit-for-pytorch "setuptools<81"
    git clone https://github.com/facebookresearch/FDR_scheduler
    git clone https://github.com/microsoft/statopt
    PYTHONPATH=FDR_scheduler:statopt rivals/bin/python -m benchmarks.rivals \
        [--fdr-scheduler FDR_scheduler] [--statopt statopt] [--repetitions N] \
        [--output FILE]

Neither keras_fdr nor TensorFlow is needed. setuptools: cockpit 1.0.2 imports
`pkg_resources`, which setuptools 81 dropped. A rival that is absent or fails leaves
its reason in the JSON instead of numbers. Takes about 4 minutes on 2 cores.

Each rival is switched on as its README (cockpit: the examples in its documentation)
says, over the loop that its users would write without it: `torch.optim.SGD` with the
same rate, momentum and weight decay, batches of 100 gathered by a new permutation of
60,000 random examples an epoch, no DataLoader. Before the timing both sides make the
same steps from the same weights, which then must agree. Both are timed by turns in one
process, in alternating order; ratios are taken within a turn, from the time a step: a
slow rival makes fewer steps a turn than the plain loop beside it.
"""

import argparse
import json
import os
import platform
import subprocess
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from torch import nn

EXAMPLES, BATCH_SIZE, INPUTS, CLASSES = 60_000, 100, 784, 10
RATE, L2 = 0.01, 0.01


def mlp():
    """784-200-200-10, as in appendix B.1."""
    return nn.Sequential(
        nn.Linear(INPUTS, 200),
        nn.ReLU(),
        nn.Linear(200, 200),
        nn.ReLU(),
        nn.Linear(200, CLASSES),
    )


def small_conv():
    """Two convolutions of 5x5, where a step computes much and updates little."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, CLASSES),
    )


def sgd(model, momentum):
    """The optimizer of every side that does not bring its own."""
    return torch.optim.SGD(
        model.parameters(), lr=RATE, momentum=momentum, weight_decay=L2
    )


def stepping(model, optimizer):
    """One step of the plain loop."""
    loss_function = nn.CrossEntropyLoss()

    def step(x, y):
        optimizer.zero_grad()
        loss_function(model(x), y).backward()
        optimizer.step()

    return step


def plain(model, momentum):
    """The loop without a rival."""
    return stepping(model, sgd(model, momentum))


def fdr_scheduler(model, momentum):
    """FDR_scheduler's optimizer in SGD's place."""
    from FDR_SGD import FDR_quencher

    return stepping(
        model,
        FDR_quencher(
            model.parameters(),
            lr_init=RATE,
            momentum=momentum,
            dampening=0.0,
            weight_decay=L2,
            t_adaptive=1000,
            X=0.01,
            Y=0.9,
        ),
    )


def physfdt(**settings):
    """Monitor and scheduler of physfdt around SGD's step."""

    def build(model, momentum):
        from physfdt import FDRConfig, FDREquilibriumLR, FDRMonitor

        optimizer = sgd(model, momentum)
        monitor = FDRMonitor(optimizer, FDRConfig(half_life=500), **settings)
        scheduler = FDREquilibriumLR(optimizer, monitor, factor=0.5)
        loss_function = nn.CrossEntropyLoss()

        def step(x, y):
            optimizer.zero_grad()
            loss_function(model(x), y).backward()
            with monitor.measure():
                optimizer.step()
            scheduler.step()

        return step

    return build


def cockpit_configuration(label):
    """The quantities of one of cockpit's configurations, each at every step."""

    def quantities():
        from cockpit.utils.configuration import configuration

        return configuration(label)

    return quantities


def cockpit_norms():
    """The quantities of cockpit's advanced example that it tracks at every step."""
    from cockpit import quantities
    from cockpit.utils import schedules

    names = ("GradNorm", "Distance", "UpdateSize")
    return [getattr(quantities, n)(schedules.linear(interval=1)) for n in names]


def cockpit(make_quantities, extended=True):
    """Cockpit's context around the backward pass, without its plots.

    `extended=False` leaves BackPACK out, for quantities that do without.
    """

    def build(model, momentum):
        from backpack import extend
        from cockpit import Cockpit

        loss_function = nn.CrossEntropyLoss()
        if extended:
            model, loss_function = extend(model), extend(loss_function)
        individual_loss_function = nn.CrossEntropyLoss(reduction="none")
        optimizer = sgd(model, momentum)
        monitor = Cockpit(model.parameters(), quantities=make_quantities())
        steps = 0

        def step(x, y):
            nonlocal steps
            optimizer.zero_grad()
            outputs = model(x)
            loss = loss_function(outputs, y)
            information = {
                "batch_size": len(x),
                "individual_losses": individual_loss_function(outputs, y),
                "loss": loss,
                "optimizer": optimizer,
            }
            with monitor(steps, info=information):
                loss.backward(create_graph=monitor.create_graph(steps))
            optimizer.step()
            steps += 1

        return step

    return build


def statopt_sasa(model, momentum):
    """SASA+ of statopt in SGD's place; its momentum is dampened, hence its rate."""
    import statopt

    return stepping(
        model,
        statopt.SASA(
            model.parameters(),
            lr=RATE / (1 - momentum),
            momentum=momentum,
            weight_decay=L2,
            testfreq=EXAMPLES // BATCH_SIZE,
        ),
    )


@dataclass(frozen=True)
class Rival:
    """A rival's setting: how it is built and how many steps a turn it can afford."""

    package: str
    setting: str
    build: Callable
    steps: int = 300
    plain_steps: int = 300
    momenta: tuple[float, ...] = (0.0, 0.9)
    conv_steps: int = 0


RIVALS = (
    Rival("FDR_scheduler", "every step (no other)", fdr_scheduler, conv_steps=50),
    Rival("physfdt", "every step (default)", physfdt(), conv_steps=50),
    Rival(
        "physfdt",
        "every step, mode='grad' (refuses momentum)",
        physfdt(mode="grad"),
        momenta=(0.0,),
    ),
    Rival("physfdt", "every=20 (README's advice)", physfdt(every=20)),
    Rival("statopt", "SASA, every step (no other)", statopt_sasa),
    Rival(
        "cockpit-for-pytorch",
        "GradNorm, Distance, UpdateSize, every step, without BackPACK",
        cockpit(cockpit_norms, extended=False),
    ),
    Rival(
        "cockpit-for-pytorch",
        "'economy', every step (configuration's default)",
        cockpit(cockpit_configuration("economy")),
        steps=3,
    ),
    Rival(
        "cockpit-for-pytorch",
        "'full', every step, no plots (basic example)",
        cockpit(cockpit_configuration("full")),
        steps=1,
    ),
)


def batches(data, seed):
    """Batches without end, in a new order every epoch."""
    x, y = data
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(EXAMPLES, generator=generator)
        for chosen in order.split(BATCH_SIZE):
            yield x[chosen], y[chosen]


def seconds_a_step(step, source, steps):
    """Mean time of `steps` steps, fetching the batches included."""
    start = time.perf_counter()
    for _ in range(steps):
        step(*next(source))
    return (time.perf_counter() - start) / steps


def measure(rival, network, momentum, data, repetitions):
    """One row of the table."""
    steps, plain_steps = rival.steps, rival.plain_steps
    if network is small_conv:
        steps = plain_steps = rival.conv_steps
    sides = {}
    for side, build in (("plain", plain), ("rival", rival.build)):
        torch.manual_seed(0)
        model = network()
        step, source = build(model, momentum), batches(data, 0)
        # Few steps: SASA's rounding differs, and grows a thousandfold in fifty.
        seconds_a_step(step, source, min(steps, 10))
        sides[side] = model, step, source
    weights = [list(model.parameters()) for model, _, _ in sides.values()]
    for a, b in zip(*weights, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    counts = {"plain": plain_steps, "rival": steps}
    seconds = {side: [] for side in sides}
    for repetition in range(repetitions):
        for side in sorted(sides, reverse=bool(repetition % 2)):
            _, step, source = sides[side]
            seconds[side].append(seconds_a_step(step, source, counts[side]))
    ratios = np.array(seconds["rival"]) / np.array(seconds["plain"])
    low, ratio, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    microseconds = {
        side: [round(float(q) * 1e6, 1) for q in np.quantile(t, [0.25, 0.5, 0.75])]
        for side, t in seconds.items()
    }
    return {
        "steps_a_turn": counts,
        "microseconds_a_step_quartiles": microseconds,
        "ratio": round(float(ratio), 3),
        "ratio_quartiles": [round(float(low), 3), round(float(high), 3)],
        "ratio_of_fastest": round(min(seconds["rival"]) / min(seconds["plain"]), 3),
    }


def commit(clone):
    """The commit of a clone, for a rival that is not on PyPI."""
    if clone is None:
        return None
    command = ["git", "-C", str(clone), "rev-parse", "HEAD"]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.stdout.strip() or None


def package_version(name):
    """The version of an installed package, None without it."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def reason(error):
    """What failed, and in which line of whose file."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"{type(error).__name__}: {error} ({where})"


def main():
    """Times every setting of every rival and writes the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fdr-scheduler", type=Path, help="clone, for its commit")
    parser.add_argument("--statopt", type=Path, help="clone, for its commit")
    parser.add_argument("--repetitions", type=int, default=9)
    default = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=default)
    args = parser.parse_args()
    clones = {"FDR_scheduler": args.fdr_scheduler, "statopt": args.statopt}
    # Deprecated calls of the rivals and physfdt's caution about momentum.
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    data = torch.randn(EXAMPLES, INPUTS), torch.randint(CLASSES, (EXAMPLES,))
    cases = [(rival, small_conv, 0.9) for rival in RIVALS if rival.conv_steps]
    cases += [(rival, mlp, m) for rival in RIVALS for m in rival.momenta]
    packages = ("torch", "physfdt", "cockpit-for-pytorch", "backpack-for-pytorch")
    rows = []
    result = {
        "what": "step time of a PyTorch loop with a rival switched on over without",
        "repetitions": args.repetitions,
        "machine": {
            "device": "cpu",
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "architecture": platform.machine(),
        },
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            **{name: package_version(name) for name in packages},
            **{f"{name}_commit": commit(clone) for name, clone in clones.items()},
        },
        "rows": rows,
    }
    for rival, network, momentum in cases:
        row = {
            "rival": rival.package,
            "setting": rival.setting,
            "network": network.__name__,
            "momentum": momentum,
        }
        try:
            row |= measure(rival, network, momentum, data, args.repetitions)
        except Exception as error:
            row["not_run"] = reason(error)
        print(row, flush=True)
        rows.append(row)
        # After every row: the slow ones come last, and can be interrupted.
        args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"Wrote {args.output}")


if __name__ == "__main__":
    main()
