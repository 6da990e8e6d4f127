"""The table and the picture of `schedules.py`, from its JSON.

    python -m benchmarks.schedules_report [FILE]

prints the one and writes the other beside the file.
"""

import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.schedule_ways import describe

# Of accuracy, below the best way: what "there" means in "epochs until there".
MARGIN = 0.002


def rows_of(section):
    """One dictionary for each way, at its default and tuned.

    The target is the best mean test accuracy after the last epoch of any of them,
    minus `MARGIN`. A run's seconds until there are its epochs times the median of its
    seconds an epoch.
    """
    groups = {}
    for way, tuned in section["tuned"].items():
        for number in sorted({0, tuned}):
            groups[way, number] = [
                run
                for run in section["runs"]
                if (run["way"], run["number"]) == (way, number)
                and run["seed"] < section["seeds"]
            ]
    best = max(np.mean([r["accuracy"][-1] for r in runs]) for runs in groups.values())
    return [
        {
            "way": way,
            "which": _which(number, section["tuned"][way], section["tuning"]),
            **_summary(runs, best - MARGIN),
        }
        for (way, number), runs in groups.items()
    ]


def _which(number, tuned, tuning):
    if number:
        return "tuned"
    return "default, tuned" if tuning and tuned == number else "default"


def _summary(runs, target):
    last = [run["accuracy"][-1] for run in runs]
    epochs, seconds = zip(*(_until(run, target) for run in runs), strict=True)
    ratios = [r["last_ratio"] for r in runs if r["last_ratio"] is not None]
    rates = [run["learning_rate"] for run in runs]
    return {
        "setting": runs[0]["setting"],
        "test_accuracy": last,
        "train_loss": np.mean([run["train_loss"] for run in runs]),
        "train_cross_entropy": np.mean([run["train_cross_entropy"] for run in runs]),
        "epochs_until": epochs,
        "seconds_until": seconds,
        "last_ratio": np.mean(ratios) if ratios else None,
        "last_rate": np.mean([rate[-1] for rate in rates]),
        "changes": np.mean([np.count_nonzero(np.diff(rate)) for rate in rates]),
    }


def _until(run, target):
    reached = np.flatnonzero(np.array(run["accuracy"]) >= target)
    if not len(reached):
        return np.nan, np.nan
    return reached[0] + 1, (reached[0] + 1) * np.median(run["seconds"])


def table(name, section):
    """The table of one model in Markdown."""
    lines = [
        f"{name}: {section['epochs']} epochs, {section['seeds']} seeds",
        "",
        "| way | setting | | test accuracy, % (of each seed) | training loss f "
        "| cross-entropy | epochs until there | seconds until there "
        "| changes of η, last η | last ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows_of(section):
        accuracy = row["test_accuracy"]
        each = ", ".join(f"{100 * value:.2f}" for value in accuracy)
        ratio = "" if row["last_ratio"] is None else f"{row['last_ratio']:.3g}"
        cells = [
            row["way"],
            describe(row["setting"]),
            row["which"],
            f"**{100 * np.mean(accuracy):.2f}** ({each})",
            f"{row['train_loss']:.4f}",
            f"{row['train_cross_entropy']:.4f}",
            _mean_until(row["epochs_until"], "{:.1f}"),
            _mean_until(row["seconds_until"], "{:.0f}"),
            f"{row['changes']:.3g}, {row['last_rate']:.2g}",
            ratio,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean_until(values, form):
    there = [value for value in values if np.isfinite(value)]
    if not there:
        return "never"
    text = form.format(np.mean(there))
    never = len(values) - len(there)
    return f"{text} ({never} never)" if never else text


def picture(everything, path):
    """Final accuracies of all seeds, and η against epochs; a row a model."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 0.6 + 3.2 * len(everything)), layout="constrained")
    axes = figure.subplots(len(everything), 2, squeeze=False)
    for (left, right), (name, section) in zip(axes, everything.items(), strict=True):
        ways = list(section["tuned"])
        for row in rows_of(section):
            place, tuned = ways.index(row["way"]), "tuned" in row["which"]
            accuracy = 100 * np.array(row["test_accuracy"])
            face = f"C{place}" if tuned else "none"
            left.plot(
                accuracy,
                np.full(len(accuracy), place + (0.12 if tuned else -0.12)),
                "o",
                color=f"C{place}",
                mfc=face,
                ms=5,
            )
        for place, way in enumerate(ways):
            run = next(
                r
                for r in section["runs"]
                if (r["way"], r["number"], r["seed"]) == (way, section["tuned"][way], 0)
            )
            epochs = range(1, len(run["learning_rate"]) + 1)
            style = {"color": f"C{place}", "lw": 1.2, "drawstyle": "steps-mid"}
            right.plot(epochs, run["learning_rate"], **style)
        left.set_yticks(range(len(ways)), ways)
        # The legend of both.
        for place, label in enumerate(left.get_yticklabels()):
            label.set_color(f"C{place}")
        left.invert_yaxis()
        left.grid(axis="x", lw=0.4)
        # Chance says nothing of the others.
        left.set_xlim(left=max(left.get_xlim()[0], _floor(section)))
        left.set_xlabel("test accuracy, %: open default, filled tuned")
        left.set_title(name, fontsize="medium")
        which = "tuned" if section["tuning"] else "default"
        right.set(xlabel="epochs", ylabel=f"learning rate, {which}, seed 0")
        # The cosine ends at 0.
        right.set_yscale("log", nonpositive="mask")
    figure.savefig(path, dpi=150)


def _floor(section):
    """Below most of the final accuracies by their own spread."""
    last = np.array([100 * run["accuracy"][-1] for run in section["runs"]])
    low, middle = np.quantile(last, [0.1, 0.5])
    return low - 2 * max(middle - low, 0.5)


def report_on(everything, path):
    """Draws the picture and returns the tables."""
    picture(everything, path)
    return "\n\n".join(table(*item) for item in everything.items())


if __name__ == "__main__":
    default = Path(__file__).resolve().with_name("schedules.json")
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    print(report_on(json.loads(source.read_text()), source.with_suffix(".png")))
