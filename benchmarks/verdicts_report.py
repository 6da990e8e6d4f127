"""The table and the picture of `verdicts.py`."""

import math


def table(rows):
    """The rows as a Markdown table."""
    head = "process|t*|rule|false alarms [95%]|delay (quartiles)|loss|never|coverage"
    lines = [f"|{head}|", "|" + "---|" * 8]
    for row in rows:
        low, high = row["false_alarms_95"]
        q1, q2, q3 = row["delay_quartiles"] or [math.nan] * 3
        loss = (row["loss_at_cut_quartiles"] or [math.nan] * 3)[1]
        covered = math.nan if row["coverage"] is None else row["coverage"]
        lines.append(
            f"|{row['process']}|{row['t_star']:,}|{row['rule']}"
            f"|{row['false_alarms']:.3f} [{low:.3f}, {high:.3f}]"
            f"|{q2:.1f} ({q1:.1f}, {q3:.1f})|{loss:.3f}|{row['never_cut']:.3f}"
            f"|{covered:.3f} of {row['errors_stated']:.2f}|"
        )
    return "\n".join(lines)


def draw(rows, path):
    """False alarms against median delay: a colour a rule, a marker a process."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot()
    processes = list(dict.fromkeys(row["process"] for row in rows))
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    markers = "osD^v<>pPX*hd8H"
    for row in rows:
        if row["delay_quartiles"] is None:
            continue
        axes.plot(
            row["delay_quartiles"][1],
            row["false_alarms"],
            marker=markers[processes.index(row["process"]) % len(markers)],
            color=f"C{rules.index(row['rule'])}",
            linestyle="none",
        )
    for i, rule in enumerate(rules):
        axes.plot([], [], "s", color=f"C{i}", label=rule)
    for i, process in enumerate(processes):
        axes.plot([], [], markers[i % len(markers)], color="0.5", label=process)
    axes.axhline(0.05, color="0.8", zorder=0)
    axes.axvline(0, color="0.8", zorder=0)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlabel("median delay, cut − t*, in relaxation times")
    axes.set_ylabel("share of runs cut before t*")
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=120)
