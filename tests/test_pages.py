"""The code on pages of the documentation runs as it stands."""

import re
from pathlib import Path

import keras
import pytest

from keras_fdr import FDRCallback, shuffled_batches

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("name", ["choosing", "custom_loops", "from_adam"])
def test_code_runs(name, capsys):
    """All blocks of a page, one after the other, print what the page shows."""
    keras.utils.set_random_seed(0)
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    names = {"__name__": "page"}
    blocks = re.findall(r"```(python|text)\n(.*?)```", page, flags=re.DOTALL)
    assert blocks
    printed = ""
    for kind, block in blocks:
        if kind == "python":
            exec(compile(block, f"{name}.md", "exec"), names)
            printed = capsys.readouterr().out
        else:
            assert printed == block
    if name == "custom_loops":
        x, y, model = names["x"], names["y"], names["MyModel"]([keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.05, weight_decay=0.01), "mse")
        batches = shuffled_batches(x, y, batch_size=32, seed=0)
        callback = FDRCallback(factor=None)
        history = model.fit(
            batches, epochs=2, verbose=0, shuffle=False, callbacks=[callback]
        )
        assert callback.record.half_running_average("loss") > 0
        assert len(history.history["fdr_ratio"]) == 2
