"""How often each rule cuts too early, and how long it waits, where the truth is known.

    python -m benchmarks.verdicts [--runs N] [--processes WORD ...] [--rules NAME ...]
                                  [--jobs N] [--output FILE]

Runs of the processes in `processes.py` are recorded as `FDRObservables` does (1,024
blocks), and each rule looks at the record every `look_every` steps until it first says
"stationary": the cut. The truth t* is the first step from which the ensemble-mean loss
stays within 5% of its stationary value; that mean is computed, not sampled, so no noise
is in it. Runs last 20 t*, and 10,000 steps at least. Seeds are 1000 and up; rules are
not tuned on them.

Reported for each process and rule: the share of runs cut before t* (false alarms, any
look counts; Wilson's 95% interval); delay cut − t* in the process's slowest relaxation
times (quartiles over the runs that were cut); the mean loss at the step of the cut over
its stationary value (median); the share never cut; and, in 1,000 runs that start
stationary, looked at once after 2 t* + 40 relaxation times, how often the error of the
ratio is stated, and how often |ratio − 1| < 1.96 `ratio_error` then; and the same of
verdicts other than "undecided".

Writes JSON, a picture beside it, and prints a table.
"""

import argparse
import json
import math
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

# Small arrays: threads only get into each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from scipy.stats import binomtest

import keras_fdr
from benchmarks.processes import PROCESSES
from benchmarks.recorder import CAPACITY, BlockRecorder
from benchmarks.verdicts_report import draw, table

RULES = {
    "threshold": ("ThresholdRule", {"threshold": 0.01}),
    "sasa": ("ConfidenceRule", {"kind": "sasa"}),
    "sasa+": ("ConfidenceRule", {"kind": "sasa+"}),
    "drift": ("DriftRule", {"false_alarm": 0.05}),
    "two looks": ("TwoLooksRule", {"margin": 0.1}),
    "pflug": ("PflugRule", {"burn_in": 100}),
    "distance": ("DistanceRule", {"q": 1.5, "threshold": 0.6, "first": 5}),
}
SETTINGS = {
    "capacity": CAPACITY,
    "loss_tolerance": 0.05,
    "duration_in_t_star": 20,
    "least_duration": 10_000,
    "looks_per_t_star": 5,
    "least_steps_between_looks": 100,
    "seed": 1000,
    "stationary_seed": 1500,
    "stationary_runs": 1000,
    "stationary_relaxations": 40,
}


def find_rules(names):
    """The rules of these names that `keras_fdr` has."""
    found = {}
    for name in names:
        rule, arguments = RULES[name]
        if hasattr(keras_fdr, rule):
            found[name] = getattr(keras_fdr, rule)(**arguments)
        else:
            print(f"Skipped {name}: keras_fdr has no {rule}.")
    return found


def truth(process):
    """t*, and the ensemble-mean loss over its stationary value at every step."""

    def excess(steps):
        return process.mean_loss(steps) / process.stationary_loss

    first = excess(math.ceil(40 * process.relaxation_time))
    outside = np.abs(first - 1) > SETTINGS["loss_tolerance"]
    t_star = int(np.flatnonzero(outside)[-1]) + 2
    return t_star, excess(duration(t_star))


def duration(t_star):
    """How long runs last."""
    return max(SETTINGS["duration_in_t_star"] * t_star, SETTINGS["least_duration"])


def look_every(t_star):
    """Steps from one look to the next."""
    every = int(round(t_star / SETTINGS["looks_per_t_star"], -2))
    return max(SETTINGS["least_steps_between_looks"], every)


def first_cuts(process, rules, runs, seed, t_star):
    """Step of each run's first "stationary" by each rule, NaN where there is none."""
    every = look_every(t_star)
    chain = process.start(runs, np.random.default_rng(seed))
    recorder = BlockRecorder(runs)
    cuts = {name: np.full(runs, np.nan) for name in rules}
    while recorder.steps < duration(t_star):
        recorder.add(chain.step())
        if recorder.steps % every:
            continue
        for name, rule in rules.items():
            for run in np.flatnonzero(np.isnan(cuts[name])):
                if rule(recorder.record(run)).stationary:
                    cuts[name][run] = recorder.steps
        if not any(np.isnan(c).any() for c in cuts.values()):
            break
    return every, cuts


def coverage(process, rules, runs, seed, steps):
    """In stationary runs, how far each rule decides, and whether its error holds.

    Returns:
        For each rule the shares of runs with a stated error and, of those, of ratios
        within 1.96 errors of 1; and the same of decided verdicts.
    """
    chain = process.start(runs, np.random.default_rng(seed), stationary=True)
    recorder = BlockRecorder(runs)
    for _ in range(steps):
        recorder.add(chain.step())
    result = {}
    for name, rule in rules.items():
        verdicts = [rule(recorder.record(run)) for run in range(runs)]
        stated = [v for v in verdicts if math.isfinite(v.ratio_error)]
        decided = [v for v in stated if v.status != "undecided"]
        inside = [
            round(
                float(np.mean([abs(v.ratio - 1) < 1.96 * v.ratio_error for v in vs])), 4
            )
            if vs
            else None
            for vs in (stated, decided)
        ]
        result[name] = {
            "errors_stated": len(stated) / runs,
            "coverage": inside[0],
            "decided": len(decided) / runs,
            "coverage_of_decided": inside[1],
        }
    return result


def wilson(hits, trials):
    """Wilson's 95% interval of a share."""
    interval = binomtest(int(hits), int(trials)).proportion_ci(method="wilson")
    return [round(float(interval.low), 4), round(float(interval.high), 4)]


def measure(index, rule_names, runs):
    """The rows of one process."""
    start = time.perf_counter()
    process, rules = PROCESSES[index], find_rules(rule_names)
    t_star, loss = truth(process)
    relaxation = process.relaxation_time
    seed = SETTINGS["seed"] + index
    every, cuts = first_cuts(process, rules, runs, seed, t_star)
    steps = 2 * t_star + math.ceil(SETTINGS["stationary_relaxations"] * relaxation)
    seed = SETTINGS["stationary_seed"] + index
    covered = coverage(process, rules, SETTINGS["stationary_runs"], seed, steps)

    def quartiles(values):
        if len(values) == 0:
            return None
        return [round(float(q), 3) for q in np.quantile(values, [0.25, 0.5, 0.75])]

    rows = []
    for name, cut in cuts.items():
        early = int(np.sum(cut < t_star))
        at = cut[np.isfinite(cut)]
        rows.append(
            {
                "process": process.name,
                "rule": name,
                "t_star": t_star,
                "relaxation_time": round(relaxation, 1),
                "look_every": every,
                "false_alarms": early / runs,
                "false_alarms_95": wilson(early, runs),
                "delay_quartiles": quartiles((at - t_star) / relaxation),
                "loss_at_cut_quartiles": quartiles(loss[at.astype(int) - 1]),
                "never_cut": 1 - len(at) / runs,
                **covered[name],
            }
        )
    seconds = time.perf_counter() - start
    print(f"{process.name}: t* = {t_star}, {seconds:.0f} s", flush=True)
    return rows, {process.name: round(seconds, 1)}


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--processes", nargs="+", help="words in the names wanted")
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--jobs", type=int, default=1)
    output = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=output)
    args = parser.parse_args()
    wanted = [
        i
        for i, process in enumerate(PROCESSES)
        if not args.processes or any(w in process.name for w in args.processes)
    ]
    rules = list(find_rules(args.rules))
    with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool:
        n = len(wanted)
        results = list(pool.map(measure, wanted, [rules] * n, [args.runs] * n))
    rows = [row for result, _ in results for row in result]
    result = {
        "what": "cuts against the known step from which the mean loss is stationary",
        "runs": args.runs,
        "settings": SETTINGS,
        "rules": {name: RULES[name] for name in rules},
        "versions": {
            "keras_fdr": keras_fdr.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "seconds": {k: v for _, seconds in results for k, v in seconds.items()},
        "rows": rows,
    }
    args.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    draw(rows, args.output.with_suffix(".png"))
    print(table(rows))
    print(f"Wrote {args.output}")


if __name__ == "__main__":
    main()
