"""The paper's four figures for one model: files and pictures.

The command line is in `command_line.py`, the training in `figure_runs.py`.
"""

import json
import time

from figure_runs import initial_run, schedules, sequential_runs
from jobs import versions
from protocol import MODES

from keras_fdr import Record, landscape, plots


def make(protocol, args):
    """Trains what a figure needs, keeps the numbers as JSON and draws it.

    Args:
        protocol: The `Protocol` of a model.
        args: What `command_line.parse` returned.
    """
    args.output.mkdir(parents=True, exist_ok=True)
    args.work = args.output / f"{protocol.name}_runs"
    if not args.draw:
        _run(protocol, args)
    for picture in draw(protocol, args.figure, args.output):
        print(f"Wrote {picture}")
    if args.figure in (2, 3):
        path = args.output / f"{protocol.name}_{args.mode}.json"
        if path.exists():
            print(f"\n{landscape.fit(_table(json.loads(path.read_text())))}")
    full = "--scale 1"
    if args.figure in (2, 3):
        full += f" --seeds {protocol.seeds}"
    if protocol.default_examples:
        full += " --examples 0"
    print(f"\nThe paper's own protocol is: --figure {args.figure} {full}")
    print("--help explains all options.")


def _run(protocol, args):
    start = time.time()
    began = {}
    if args.figure in (2, 3):
        initial = args.output / f"{protocol.name}_figure1.json"
        weights = args.work / "initial" / "end.weights.h5"
        if not (initial.exists() and weights.exists()):
            print(
                "Figure 1 runs first, at the same scale. This figure starts at its end."
            )
            _keep(initial, args, 1, start, initial_run(protocol, args))
            draw(protocol, 1, args.output)
            start = time.time()
        run = json.loads(initial.read_text())
        began = {f"initial_{key}": run.get(key) for key in ("scale", "examples")}
    train = {1: initial_run, 4: schedules}.get(args.figure, sequential_runs)
    name = args.mode if began else f"figure{args.figure}"
    path = args.output / f"{protocol.name}_{name}.json"
    _keep(path, args, args.figure, start, began | train(protocol, args))


def _keep(path, args, figure, start, result):
    """Writes the result with its settings, versions and seconds to a JSON file."""
    header = {
        "figure": figure,
        "scale": args.scale,
        "examples": args.examples,
        "seconds": round(time.time() - start),
        **versions(),
    }
    path.write_text(json.dumps(header | result) + "\n")
    print(f"Wrote {path}")


# Drawing -----------------------------------------------------------------------


def draw(protocol, figure, folder):
    """Draws a figure from the JSON in a folder. Figures 2 and 3 are drawn together.

    Returns:
        List of the paths of the pictures.

    Raises:
        SystemExit: If the folder has no such JSON.
    """
    names = MODES if figure in (2, 3) else (f"figure{figure}",)
    paths = {name: folder / f"{protocol.name}_{name}.json" for name in names}
    runs = {n: json.loads(p.read_text()) for n, p in paths.items() if p.exists()}
    if not runs:
        missing = " or ".join(path.name for path in paths.values())
        raise SystemExit(
            "A figure is drawn from the JSON of a run. Run it first, without --draw. "
            f"Received: --output {folder}, without {missing}"
        )
    if figure in (2, 3):
        return _draw_sweeps(protocol, runs, folder)
    [run] = runs.values()
    picture = folder / f"{protocol.name}_figure{figure}.png"
    title = f"{protocol.title}, {_scale(run)}"
    if figure == 1:
        plots.equilibration(Record(**run["record"]), picture, title)
    else:
        panels = ("learning_rate", "full_batch_loss", "full_batch_accuracy")
        histories = {
            name: {key: history[key] for key in (*panels, "val_accuracy")}
            for name, history in run["histories"].items()
        }
        plots.schedule(
            histories, picture, f"{title}, SGD without momentum", ["black", "blue"]
        )
    return [picture]


def _draw_sweeps(protocol, runs, folder):
    mode, first = next(iter(runs.items()))
    table = _table(first)
    pictures = [folder / f"{protocol.name}_figure{number}.png" for number in (2, 3)]
    seed = table.settings["seeds"][0]
    title = f"{protocol.title}, {_scale(first)}, mode {mode}, seed {seed}"
    plots.sequential_runs(table, path=pictures[0], title=title)
    lines = [protocol.title]
    for mode, run in runs.items():
        seeds = len(run["settings"]["seeds"])
        lines.append(f"{mode}: {_scale(run)}, {seeds} seed{'s' * (seeds > 1)}")
    tables = {mode: _table(run) for mode, run in runs.items()}
    plots.landscape(tables, pictures[1], "\n".join(lines))
    return pictures


def _table(run):
    return landscape.SweepResults(run["settings"], run["rows"])


def _scale(run):
    """Says in a title how much of the paper's protocol a run did."""
    same = "the paper's epochs"
    text = same if run["scale"] == 1 else f"epochs × {run['scale']:g}"
    began = run.get("initial_scale", run["scale"])
    if began != run["scale"]:
        text += f" (figure 1: {same if began == 1 else f'× {began:g}'})"
    if run.get("examples"):
        text += f", {run['examples']:,} images"
    return text
