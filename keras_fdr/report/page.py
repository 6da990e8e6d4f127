"""The page of a report: a single HTML file without scripts or network."""

import base64
import io
import os
import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_fdr import plots
from keras_fdr._version import __version__
from keras_fdr.arguments import check_path
from keras_fdr.callback.fdr_callback import FDRCallback
from keras_fdr.files import write_atomically
from keras_fdr.plots.figures import check_matplotlib
from keras_fdr.plots.sources import Run, run_of
from keras_fdr.report.words import meaning, settings_of, shown, what_to_do

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 46rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin-top: 2rem; border-bottom: 1px solid #ddd; }
img { width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; vertical-align: top;
         border-bottom: 1px solid #eee; overflow-wrap: break-word; }
.now { background: #f3f6fa; border-left: 4px solid #36c; padding: .5rem 1rem; }
.stationary { border-color: #2a7; } .drifting { border-color: #d80; }
footer { margin-top: 2rem; color: #666; font-size: .85rem; }
"""


def fdr_report(run: Any, path: str | os.PathLike[str]) -> Path:
    """Writes a page that shows a run: one HTML file, for a browser or a phone.

    The page has the verdict now with its reason and what to do; the settings; the
    learning rate, loss, accuracy and ratio against epochs; the two sides of FDR1,
    ⟨O_L⟩ = ⟨O_R⟩ in a stationary state, since the last cut; the weight tensors, if
    they were measured separately; and the cuts with their reasons. What the run does
    not know is left out. Pictures are inside the file. It has no scripts and loads
    nothing from the network.

    Example:

    >>> import keras, numpy as np
    >>> from keras_fdr import FDRSGD, FDRCallback, fdr_report
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer=FDRSGD(learning_rate=0.05, l2=0.01), loss="mse")
    >>> x, y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
    >>> callback = FDRCallback()
    >>> history = model.fit(x, y, epochs=3, verbose=0, callbacks=[callback])
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> fdr_report(callback, folder + "/report.html").name
    'report.html'

    Args:
        run: The `FDRCallback` after `fit`. A `keras.callbacks.History` or a model does
            not know the rule, so the page then has no verdict. Any other source of
            `plots.schedule` or `plots.equilibration` is taken too, for what it knows.
        path: Where to write the page. A file of that name is replaced.

    Returns:
        The `pathlib.Path` of the file.

    Raises:
        TypeError: If `run` or `path` is none of these.
        ValueError: If `run` knows neither epochs nor steps.
        ImportError: If matplotlib is not installed.
    """
    path = Path(check_path("path", path))
    check_matplotlib()
    known = run_of(run)
    if not known.logs and not known.record.steps:
        raise ValueError(
            "`run` must have been trained for at least one epoch. "
            f"Received: run={repr(run)[:200]}"
        )
    callback = run if isinstance(run, FDRCallback) else None
    model = run if isinstance(run, keras.Model) else getattr(run, "model", None)
    name = getattr(model, "name", None) or "a training run"
    sections = [
        _now(known, callback),
        _settings(known, callback, model),
        _schedule(known),
        _equilibration(known),
        _layers(known, callback),
        _cuts(known),
    ]
    page = _page(f"Report on {name}", sections)
    write_atomically(path, lambda file: file.write(page.encode("utf-8")))
    return path


def _page(title: str, sections: Iterable[str]) -> str:
    versions = f"keras_fdr {__version__}, Keras {keras.__version__}, "
    versions += f"TensorFlow {tf.__version__}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{''.join(sections)}"
        f"<footer>Written by {escape(versions)}.</footer>\n</body></html>\n"
    )


def _now(run: Run, callback: FDRCallback | None) -> str:
    verdict = callback.verdict if callback else None
    ratio = verdict.ratio if verdict else run.record.ratio
    status = verdict.status if verdict else "not judged"
    since = f"after {run.record.steps:,} steps" + " since the last cut" * bool(run.cuts)
    parts = [
        f"<p><strong>The run is {escape(status)}.</strong> Dissipation over "
        f"fluctuation is {ratio:.4f} {since}. {escape(meaning(ratio))}</p>"
    ]
    if verdict:
        parts.append(f"<p>Why: {_prose(verdict.reason)}</p>")
    parts.append(f"<p>What to do: {_prose(what_to_do(ratio, verdict, callback))}</p>")
    return f'<div class="now {escape(status)}">{"".join(parts)}</div>\n'


def _settings(run: Run, callback: FDRCallback | None, model: Any) -> str:
    rows: dict[str, Any] = {}
    optimizer = getattr(callback, "optimizer", None) or getattr(
        model, "optimizer", None
    )
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if model is not None:
        rows["model"] = f"{model.name}, {_size(model):,} trainable numbers"
    if optimizer is not None:
        rows["optimizer"] = type(optimizer).__name__
        rows |= settings_of(optimizer)
    if len(run.rates):
        rows["learning rate of the first epoch"] = float(run.rates[0])
        rows["learning rate of the last epoch"] = float(run.rates[-1])
    if callback:
        rows["rule"] = repr(callback.rule)
        rows["factor of a cut"] = callback.factor
        rows["smallest learning rate"] = float(callback.min_lr)
        if callback.final_decay:
            rows["final decay"] = repr(callback.final_decay)
    if len(run.epochs):
        rows["epochs"] = f"{run.epochs[0]} to {run.epochs[-1]}"
    if run.record.steps:
        rows["steps since the last cut"] = f"{run.record.steps:,}"
    cells = [(name, shown(value)) for name, value in rows.items()]
    return _section("Settings", _table(("setting", "value"), cells)) if cells else ""


def _size(model: keras.Model) -> int:
    return sum(weight.value.shape.num_elements() for weight in model.trainable_weights)


def _schedule(run: Run) -> str:
    try:
        picture = _picture(plots.schedule, run, "Curves against epochs")
    except ValueError:  # The logs have none of the columns that the picture shows.
        return ""
    text = (
        "Solid lines are training, dashed lines are validation. Grey vertical lines "
        "mark the cuts. The lowest panel has dissipation over fluctuation: at 1, the "
        "learning rate has done its work."
    )
    return _section("Epochs", f"<p>{text}</p>{picture}")


def _equilibration(run: Run) -> str:
    if not run.record.steps:
        return ""
    text = (
        "The pull of the loss on the weights (dissipation) and the push of the noise "
        "(fluctuation), averaged over the newest half of the steps since the last cut. "
        "The two lines meet in a stationary state."
    )
    name = "Dissipation and fluctuation against steps"
    return _section("Steps", f"<p>{text}</p>{_picture(plots.equilibration, run, name)}")


def _layers(run: Run, callback: FDRCallback | None) -> str:
    verdicts = callback.verdict.by_variable if callback and callback.verdict else {}
    names = list(verdicts or run.by_variable)
    if not names:
        return ""
    picture = ""
    if any(record.steps for record in run.by_variable.values()):
        name = "Ratio of every weight tensor against steps"
        picture = _picture(plots.layers, run, name)
    rows = [
        (
            name,
            f"{(verdicts.get(name) or run.by_variable[name]).ratio:.4f}",
            verdicts[name].status if name in verdicts else "",
        )
        for name in names
    ]
    table = _table(("weight tensor", "ratio", "verdict"), rows)
    return _section("Weight tensors", picture + table)


def _cuts(run: Run) -> str:
    if not run.cuts:
        return _section("Cuts", "<p>No cut of the learning rate is known.</p>")
    rows = [
        (
            str(cut.epoch),
            f"{cut.old_learning_rate:.4g} → {cut.new_learning_rate:.4g}",
            f"{cut.ratio:.4f}",
            cut.reason,
        )
        for cut in run.cuts
    ]
    header = ("epoch", "learning rate", "ratio", "reason")
    return _section("Cuts", _table(header, rows))


def _prose(text: str) -> str:
    """Escapes a sentence. Names in backticks are shown as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{content}\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n"
        for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>\n{body}</table></div>'


def _picture(draw: Callable[..., Any], run: Run, name: str) -> str:
    """A drawn picture as an image in the page. SVG stays sharp at any size."""
    figure, _ = draw(run)
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<img alt="{escape(name)}" src="data:image/svg+xml;base64,{data}">'
