"""Ways to test for stationarity that were tried before `DriftRule` became what it is.

    python -m benchmarks.verdict_ways [--runs N] [--output FILE]

As in `verdicts.py`, with seeds of its own (100 and up): these were used to choose.
Each way is a test of the same record at the same looks; z = 1.645 throughout.

- `spread m`: Q moved, between the halves of the window, by less than m of its own
  spread inside them.
- `ratio m`: the ratio is within m of 1, with its error bar (no look at the loss).
- `ratio m, twice`: so it was at the last look before half of the steps.
- `ratio m, loss (t/k, t/2] l`: and the mean loss over (t/k, t/2] is within l of that
  over the window, with its error bar; with `σ`, in units of the loss's own spread
  instead of its mean. `DriftRule` is m = 0.1, k = 8, l = 0.2.

Writes JSON and prints a table: false alarms, median delay in t*, share not cut.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
from scipy.stats import norm

from benchmarks.processes import PROCESSES
from benchmarks.recorder import BlockRecorder
from benchmarks.verdicts import duration, look_every, truth
from keras_fdr.rules.q_path import QPath, effective_sample_size

SEED = 100
Z = norm.ppf(0.95)


def statistics(record):
    """What the ways need of one record."""
    path = QPath.of(record)
    halves = np.array_split(path.values, 2)
    size = path.effective_sample_size
    within = (halves[0].var() + halves[1].var()) / 2 / max(1 - 2 / size, 0.5)
    _, loss = record.block_means("loss")
    first = record.window_start // record.block_length
    now = loss[first:]
    values = effective_sample_size(now)
    return {
        "moved": (halves[1].mean() - halves[0].mean()) / math.sqrt(within),
        "size": size,
        "ratio": record.ratio,
        "error": np.nan_to_num(path.ratio_error(), nan=np.inf),
        "loss": now.mean(),
        "loss_spread": now.std() / math.sqrt(max(1 - 1 / values, 0.5)),
        "loss_size": values,
        "before_4": loss[first // 2 : first].mean(),
        "before_8": loss[first // 4 : first].mean(),
    }


def spread(margin):
    """Q against its own spread."""
    return lambda s: abs(s["moved"]) + 2 * Z / np.sqrt(s["size"]) < margin


def ratio(margin):
    """The ratio with its error bar."""
    return lambda s: abs(s["ratio"] - 1) + Z * s["error"] < margin


def loss(k, limit, own_spread=False):
    """The loss before the window against that in it."""

    def test(s):
        # The steps before are (k − 2)/k of the window.
        share = 1 + k / (k - 2)
        width = Z * s["loss_spread"] * np.sqrt(share / s["loss_size"])
        scale = s["loss_spread"] if own_spread else s["loss"]
        return abs(s[f"before_{k}"] - s["loss"]) + width < limit * scale

    return test


WAYS = {
    "spread 1": [spread(1)],
    "spread 0.75": [spread(0.75)],
    "spread 0.5": [spread(0.5)],
    "ratio 0.1": [ratio(0.1)],
    "ratio 0.05": [ratio(0.05)],
    "ratio 0.1, twice": [ratio(0.1)],
    "ratio 0.1, loss (t/4, t/2] 0.2": [ratio(0.1), loss(4, 0.2)],
    "ratio 0.1, loss (t/4, t/2] 0.75 σ": [ratio(0.1), loss(4, 0.75, True)],
    "ratio 0.1, loss (t/8, t/2] 0.1": [ratio(0.1), loss(8, 0.1)],
    "ratio 0.1, loss (t/8, t/2] 0.2": [ratio(0.1), loss(8, 0.2)],
    "ratio 0.1, loss (t/8, t/2] 0.3": [ratio(0.1), loss(8, 0.3)],
}


def looks(process, runs, seed, t_star):
    """Steps of the looks, and the statistics at each: arrays `(looks, runs)`."""
    chain = process.start(runs, np.random.default_rng(seed))
    recorder, every = BlockRecorder(runs), look_every(t_star)
    steps, found = [], []
    while recorder.steps < duration(t_star):
        recorder.add(chain.step())
        if recorder.steps % every == 0:
            steps.append(recorder.steps)
            found.append([statistics(recorder.record(run)) for run in range(runs)])
    names = found[0][0]
    return np.array(steps), {
        name: np.array([[one[name] for one in look] for look in found])
        for name in names
    }


def first_cuts(way, steps, found):
    """The step of each run's first pass, infinite where there is none."""
    passed = np.all([test(found) for test in WAYS[way]], axis=0)
    if "twice" in way:
        before = np.searchsorted(steps, steps / 2, side="right") - 1
        passed &= passed[before] & (before >= 0)[:, None]
    return np.where(passed.any(axis=0), steps[passed.argmax(axis=0)], np.inf)


def main():
    """Runs all processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    output = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=output)
    args = parser.parse_args()
    rows = []
    for index, process in enumerate(PROCESSES):
        t_star, _ = truth(process)
        steps, found = looks(process, args.runs, SEED + index, t_star)
        for way in WAYS:
            cuts = first_cuts(way, steps, found)
            delay = float(np.median(cuts / t_star - 1))
            row = {
                "process": process.name,
                "way": way,
                "false_alarms": float(np.mean(cuts < t_star)),
                "median_delay_in_t_star": round(delay, 2) if delay < 1e9 else None,
                "never_cut": float(np.mean(np.isinf(cuts))),
            }
            rows.append(row)
            print(" | ".join(str(value) for value in row.values()), flush=True)
    result = {
        "what": "ways to test for stationarity on the runs used to choose one",
        "runs": args.runs,
        "seed": SEED,
        "rows": rows,
    }
    args.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
