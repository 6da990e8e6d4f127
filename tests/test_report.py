"""The report says what the callback knows, in one file that loads nothing else."""

import base64
import sys
from html.parser import HTMLParser

import keras
import numpy as np
import pytest
from test_plot_sources import cuts_after

from keras_fdr import FDRSGD, FDRCallback, FDRObservables, Record, fdr_report
from keras_fdr.report.words import what_to_do


class Page(HTMLParser):
    """Text, table cells and attributes of a page. Void tags are not closed."""

    def __init__(self, path):
        super().__init__()
        self.stack, self.text, self.rows, self.tags = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.stack == []
        self.words = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.stack.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        if self.stack and self.stack[-1] != "style":
            self.text.append(data)

    def pictures(self):
        sources = [attrs["src"] for tag, attrs in self.tags if tag == "img"]
        start = "data:image/svg+xml;base64,"
        assert all(source.startswith(start) for source in sources)
        return [base64.b64decode(source[len(start) :]) for source in sources]


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 3)).astype("float32")
    layers = [keras.Input((3,)), keras.layers.Dense(1, name="a>b")]
    model = keras.Sequential(layers, name="a>b")
    observables = FDRObservables(per_variable=True)
    observables.name_weights(["<b>", "a&amp;b"])
    model.compile(FDRSGD(0.1, 0.5, l2=0.01, observables=observables), "mse")
    callback = FDRCallback(rule=cuts_after(2), factor=0.5)
    history = model.fit(
        x, x[:, :1], batch_size=8, epochs=4, verbose=0, callbacks=[callback]
    )
    return callback, history, model


def test_report_of_a_callback(trained, tmp_path):
    callback, _, _ = trained
    path = fdr_report(callback, tmp_path / "report.html")
    page = Page(path)
    assert "Report on a>b" in page.words
    assert ("b", {}) not in page.tags
    assert f"The run is {callback.verdict.status}." in page.words
    words = f"is {callback.verdict.ratio:.4f} after 8 steps since the last cut."
    assert words in page.words
    assert f"Why: {callback.verdict.reason}" in page.words
    assert "What to do: " in page.words
    settings = dict(row for row in page.rows if len(row) == 2)
    assert settings["optimizer"] == "FDRSGD"
    assert settings["momentum"] == "0.5" and settings["l2"] == "0.01"
    assert float(settings["learning rate of the first epoch"]) == 0.1
    assert float(settings["learning rate of the last epoch"]) == 0.05
    assert settings["epochs"] == "1 to 4" and settings["factor of a cut"] == "0.5"
    assert settings["model"] == "a>b, 4 trainable numbers"
    [cut] = callback.cuts
    [row] = [row for row in page.rows if len(row) == 4 and row[0] != "epoch"]
    assert row == ["2", "0.1 → 0.05", f"{cut.ratio:.4f}", cut.reason]
    tensors = {row[0]: row[1:] for row in page.rows if len(row) == 3}
    for name, verdict in callback.verdict.by_variable.items():
        assert tensors[name] == [f"{verdict.ratio:.4f}", verdict.status]
    assert {"<b>", "a&amp;b"} <= set(tensors)
    assert len(page.pictures()) == 3
    for picture in page.pictures():
        assert picture.startswith(b"<?xml") and b"</svg>" in picture


def test_page_needs_nothing_else(trained, tmp_path):
    page = Page(fdr_report(trained[0], tmp_path / "report.html"))
    assert {"script", "link", "iframe", "a"}.isdisjoint(tag for tag, _ in page.tags)
    for tag, attrs in page.tags:
        assert "src" not in attrs or tag == "img"
    assert ("meta", {"charset": "utf-8"}) in page.tags
    assert any(attrs.get("name") == "viewport" for _, attrs in page.tags)
    assert "url(" not in (tmp_path / "report.html").read_text().split("</style>")[0]


@pytest.mark.parametrize("which", [1, 2])
def test_history_and_model_know_no_verdict(trained, tmp_path, which):
    page = Page(fdr_report(trained[which], tmp_path / "report.html"))
    record = trained[2].optimizer.observables.record()
    assert "The run is not judged." in page.words
    assert f"fluctuation is {record.ratio:.4f} after 8 steps" in page.words
    assert "Why:" not in page.words and len(page.pictures()) == 3
    assert any(row[0] == "2" for row in page.rows if len(row) == 4)


def test_report_of_what_knows_little(tmp_path):
    record = Record(np.ones((3, 5)), steps=3, learning_rate=0.1)
    page = Page(fdr_report(record, tmp_path / "report.html"))
    assert len(page.pictures()) == 1 and "is 1.0000 after 3 steps" in page.words
    assert "No cut of the learning rate is known." in page.words
    page = Page(fdr_report({"loss": [2.0, 1.0]}, tmp_path / "report.html"))
    assert len(page.pictures()) == 1 and "The ratio is not known." in page.words


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (5.0, "still has work to do"),
        (1.0, "let the rule decide"),
        (0.5, "raise the L2 coefficient"),
        (-2.0, "Do not expect a cut"),
    ],
)
def test_what_to_do(ratio, words, tmp_path):
    record = Record([[ratio, 1, 0, 0, 0.5]], steps=1)
    assert words in Page(fdr_report(record, tmp_path / "report.html")).words


def test_what_to_do_next_to_another_schedule():
    callback = FDRCallback(factor=None)
    assert "Keep to the schedule" in what_to_do(-1.0, None, callback)
    assert "Keep to the schedule" not in what_to_do(2.0, None, callback)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({}, "lowers it"), ({"factor": None}, "Lower it to get further")],
)
def test_what_to_do_when_stationary(arguments, words, tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(FDRSGD(0.1, l2=0.1), "mse")
    callback = FDRCallback(rule=cuts_after(1), **arguments)
    x = np.ones((4, 3))
    model.fit(x, x[:, 0], verbose=0, callbacks=[callback])
    page = Page(fdr_report(callback, tmp_path / "report.html"))
    assert "The run is stationary." in page.words and words in page.words


def test_refusals(trained, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="at least one epoch. Received: run=.*FDRCa"):
        fdr_report(FDRCallback(), tmp_path / "report.html")
    with pytest.raises(TypeError, match="`source` must be .*Received: source=3"):
        fdr_report(3, tmp_path / "report.html")
    with pytest.raises(TypeError, match="`path`"):
        fdr_report(trained[0], 3)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'keras-fdr\[plots\]'"):
        fdr_report(trained[0], tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []
