"""Tables and a picture of what `modern_networks.py` found."""

import statistics
from collections import defaultdict

import matplotlib

from benchmarks.modern_ways import BASELINES, WAYS

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Aims, in points of test accuracy.
NEAR_BEST, EQUAL = 0.3, 0.2


def report(rows, path):
    """Markdown tables of all finished runs; draws a picture beside the file.

    Args:
        rows: List of dictionaries, the lines of the file.
        path: `Path` of the file.
    """
    groups = defaultdict(lambda: defaultdict(list))
    for row in rows:
        key = tuple(row[name] for name in ("dataset", "network", "images", "epochs"))
        l2s = [row["l2"]]
        if row["way"] == "adamw":  # One run stands for all λ.
            l2s = {r["l2"] for r in rows if r["way"] != "adamw"}
        for l2 in l2s:
            groups[(*key, l2)][row["way"]].append(row)
    if not groups:
        return "No finished runs yet."
    text = [_table(key, ways) for key, ways in sorted(groups.items(), key=str)]
    text.append(_summary(groups))
    _draw(groups, path.with_suffix(".png"))
    return "\n\n".join(text)


def _best(ways):
    """The best mean accuracy of the baselines, in points, or `None`."""
    means = [
        _mean(ways[way], "test_accuracy", 100) for way in BASELINES if ways.get(way)
    ]
    return max(means) if len(means) == len(BASELINES) else None


def _mean(runs, name, scale=1.0):
    return scale * statistics.fmean(run[name] for run in runs)


def _table(key, ways):
    dataset, network, count, epochs, l2 = key
    best = _best(ways)
    lines = [
        f"{network}, {count or 'all'} images of {dataset}, λ = {l2:g}, {epochs} epochs",
        "",
        "| way | test accuracy, % | from the best baseline | epochs used | seeds |",
        "|---|---|---|---|---|",
    ]
    for way in WAYS:
        if runs := ways.get(way):
            mean = _mean(runs, "test_accuracy", 100)
            values = [100 * run["test_accuracy"] for run in runs]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            apart = "" if best is None else f"{mean - best:+.2f}"
            lines.append(
                f"| {way} | {mean:.2f}{spread} | {apart} | "
                f"{_mean(runs, 'epochs_used'):.1f} | {len(runs)} |"
            )
    return "\n".join(lines)


def _summary(groups):
    """How often each way is near the best baseline, and how often it is shorter."""
    lines = [
        f"| way | rows | within {NEAR_BEST} points of the best of "
        f"{', '.join(BASELINES)} | mean distance | worst | fewer epochs at equal "
        f"accuracy (within {EQUAL}) |",
        "|---|---|---|---|---|---|",
    ]
    for way in WAYS:
        apart, shorter = [], 0
        for key, ways in groups.items():
            best = _best(ways)
            if best is None or not ways.get(way):
                continue
            apart.append(_mean(ways[way], "test_accuracy", 100) - best)
            fewer = _mean(ways[way], "epochs_used") < key[3]
            shorter += fewer and apart[-1] >= -EQUAL
        if apart:
            near = sum(value >= -NEAR_BEST for value in apart)
            lines.append(
                f"| {way} | {len(apart)} | {near} | {statistics.fmean(apart):+.2f} | "
                f"{min(apart):+.2f} | {shorter} |"
            )
    return "\n".join(lines)


def _draw(groups, path):
    """Accuracy against epochs used, a panel for each network, λ and budget."""
    keys = sorted(groups, key=str)
    columns = min(3, len(keys))
    rows = -(-len(keys) // columns)
    size = (4.2 * columns, 3.2 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axis in axes.flat[len(keys) :]:
        axis.set_axis_off()
    colors = plt.get_cmap("tab20")
    for axis, key in zip(axes.flat, keys, strict=False):
        dataset, network, count, epochs, l2 = key
        for i, way in enumerate(WAYS):
            for run in groups[key].get(way, ()):
                axis.plot(
                    run["epochs_used"],
                    100 * run["test_accuracy"],
                    "o" if way in BASELINES else "^",
                    color=colors(i % 20),
                    label=way,
                )
        axis.set_title(
            f"{network}, {dataset} ({count or 'all'}), λ = {l2:g}, {epochs} epochs",
            fontsize=8,
        )
        axis.set_xlabel("epochs used")
        axis.set_ylabel("test accuracy, %")
    handles = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=6)
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=80)
    plt.close(figure)
