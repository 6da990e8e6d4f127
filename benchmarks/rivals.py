"""Time of a PyTorch step with another package's monitor on, over one without.

    python -m venv rivals
    rivals/bin/pip install \
        torch physfdt schedulefree cockpit-for-pytorch "setuptools<81"
    git clone https://github.com/facebookresearch/FDR_scheduler
    git clone https://github.com/microsoft/statopt
    PYTHONPATH=FDR_scheduler:statopt rivals/bin/python -m benchmarks.rivals \
        [--fdr-scheduler FDR_scheduler] [--statopt statopt] [--repetitions N] \
        [--only PACKAGE ...] [--threads N] [--processor] [--output FILE]

Neither keras_fdr nor TensorFlow is needed. setuptools: cockpit 1.0.2 imports
`pkg_resources`, which setuptools 81 dropped. A rival that is absent or fails leaves
its reason in the JSON instead of numbers. Takes about 4 minutes on 2 cores.

Each rival is switched on as its README (cockpit: the examples in its documentation)
says, over the loop that its users would write without it: the stock optimizer of
`torch.optim` with the same arguments, batches of 100 gathered by a new permutation of
60,000 random examples an epoch, no DataLoader. Before the timing both sides make the
same steps from the same weights, which then must agree. Schedule-free SGD is another
optimizer, so its weights need not. Both are timed by turns in one process, in
alternating order. Ratios are taken within a turn, from the time of a step, since a slow
rival makes fewer steps in a turn than the plain loop. `--processor` with `--threads 1`
counts the processor's time instead of the clock's, which a busy machine changes little.
"""

import argparse
import json
import os
import platform
import subprocess
import time
import traceback
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from benchmarks.rivals_networks import (
    CLASSES,
    EXAMPLES,
    INPUTS,
    MOMENTA,
    batches,
    mlp,
    plain,
    small_conv,
)
from benchmarks.rivals_packages import RIVALS


def seconds_a_step(step, source, steps, clock):
    """Mean time of `steps` steps, fetching the batches included."""
    start = clock()
    for _ in range(steps):
        step(*next(source))
    return (clock() - start) / steps


def measure(rival, network, optimizer, data, repetitions, clock):
    """One row of the table."""
    steps, plain_steps = rival.steps, rival.plain_steps
    if network is small_conv:
        steps = plain_steps = rival.conv_steps
    sides = {}
    for side, build in (("plain", plain), ("rival", rival.build)):
        torch.manual_seed(0)
        model = network()
        step, source = build(model, optimizer), batches(data, 0)
        # Few steps: SASA's rounding differs, and grows a thousandfold in fifty.
        seconds_a_step(step, source, min(steps, 10), clock)
        sides[side] = model, step, source
    weights = [list(model.parameters()) for model, _, _ in sides.values()]
    for a, b in zip(*weights, strict=True):
        if rival.same_weights:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    counts = {"plain": plain_steps, "rival": steps}
    seconds = {side: [] for side in sides}
    for repetition in range(repetitions):
        for side in sorted(sides, reverse=bool(repetition % 2)):
            _, step, source = sides[side]
            seconds[side].append(seconds_a_step(step, source, counts[side], clock))
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
    parser.add_argument("--threads", type=int, help="PyTorch's own by default")
    parser.add_argument(
        "--processor", action="store_true", help="time of the processor; --threads 1"
    )
    packages = sorted({rival.package for rival in RIVALS})
    parser.add_argument("--only", nargs="+", choices=packages, default=packages)
    default = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=default)
    args = parser.parse_args()
    clones = {"FDR_scheduler": args.fdr_scheduler, "statopt": args.statopt}
    # Deprecated calls of the rivals and physfdt's caution about momentum.
    warnings.simplefilter("ignore")
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    data = torch.randn(EXAMPLES, INPUTS), torch.randint(CLASSES, (EXAMPLES,))
    clock = time.process_time if args.processor else time.perf_counter
    chosen = [rival for rival in RIVALS if rival.package in args.only]
    cases = [(rival, small_conv, "momentum") for rival in chosen if rival.conv_steps]
    cases += [(rival, mlp, name) for rival in chosen for name in rival.optimizers]
    packages = (
        "torch",
        "physfdt",
        "schedulefree",
        "cockpit-for-pytorch",
        "backpack-for-pytorch",
    )
    rows = []
    result = {
        "what": "step time of a PyTorch loop with a rival switched on over without",
        "clock": clock.__name__,
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
    for rival, network, optimizer in cases:
        row = {
            "rival": rival.package,
            "setting": rival.setting,
            "network": network.__name__,
            "optimizer": optimizer,
            "momentum": MOMENTA.get(optimizer),
        }
        try:
            row |= measure(rival, network, optimizer, data, args.repetitions, clock)
        except Exception as error:
            row["not_run"] = reason(error)
        print(row, flush=True)
        rows.append(row)
        # After every row: the slow ones come last, and can be interrupted.
        args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"Wrote {args.output}")


if __name__ == "__main__":
    main()
