"""What a sweep refuses, and its progress bar."""

import keras
import numpy as np
import pytest
from sweep_cases import PROBLEM, least_squares, small_sweep

from keras_fdr import landscape
from keras_fdr.landscape.sweeps import protocol


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stages": []}, "at least one stage"),
        ({"stages": [(0.1, 3), (0.0, 3)]}, "stages.*0.0"),
        ({"stages": [(-0.1, 3)]}, "stages.*-0.1"),
        ({"stages": [(float("nan"), 3)]}, "stages.*nan"),
        ({"stages": [(float("inf"), 3)]}, "stages.*inf"),
        ({"stages": [(0.1, 2)]}, "at least 3.*0.1, 2"),
        ({"initial": (0.1, 0)}, "initial"),
        ({"initial": (-1.0, 1)}, "initial.*-1.0"),
        ({"mode": "shuffled"}, "mode.*shuffled"),
        ({"full_batch_every": 0}, "full_batch_every.*at least 1.*full_batch_every=0"),
        (
            {"full_batch_every": 2},
            "two passes in the newest half.*2 epochs.*full_batch_every=2",
        ),
        ({"seeds": 0}, "seeds"),
        ({"seeds": [1, 1]}, r"seeds.*\[1, 1\]"),
        ({"seeds": [-1]}, "seeds.*-1"),
        ({"seeds": []}, r"seeds.*at least one.*seeds=\[\]"),
        ({"directory": ""}, "directory.*not empty.*directory=''"),
        ({"verbose": -1}, "verbose.*at least 0.*verbose=-1"),
        ({"batch_size": 0}, "batch_size.*0"),
        ({"batch_size": 22}, "batch_size.*21.*22"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        small_sweep(least_squares(), **arguments)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("stages", (None, "x", 0.1, [0.1], [(0.1,)], [(0.1, 3.5)], [(0.1, "3")])),
        ("stages", ([("a", 3)], [(0.1, None)], [(True, 3)], [{0.1: 3}], {0.1: 3})),
        ("seeds", (None, "3", 1.7, True, [0.5], ["0"], {0, 1})),
        ("batch_size", (None, "4", 4.9, True, [4])),
        ("initial", (3, (0.1,), (0.1, 1.5), "ab", {0.1: 3})),
        ("mode", (None, 1, ["paper"])),
        ("full_batch_every", (None, "1", 1.5, True)),
        ("directory", (5, b"sweep", ["sweep"])),
        ("verbose", (None, "1", 0.5)),
        ("progress", (3, "x")),
    ],
)
def test_arguments_of_another_type_are_refused(monkeypatch, name, values):
    """The message has the argument's name and the value, and nothing was computed."""
    monkeypatch.setattr(protocol, "StageRunner", None)
    for value in values:
        with pytest.raises(TypeError, match="Received: ") as caught:
            landscape.sweep(
                None, None, **{"stages": [(0.1, 3)], "verbose": 0, name: value}
            )
        assert f"`{name}" in str(caught.value)
        shown = value[0] if isinstance(value, list) else value
        assert repr(shown) in str(caught.value)


def test_numbers_of_numpy_are_as_good():
    plain = small_sweep(least_squares(), seeds=[1], full_batch_every=1)
    numbers = small_sweep(
        least_squares(),
        stages=[(np.float64(0.1), np.int64(4)), [0.05, 3]],
        seeds=np.array([1]),
        batch_size=np.int64(4),
        full_batch_every=np.int32(1),
        verbose=False,
    )
    assert numbers.settings == plain.settings
    assert numbers.rows == plain.rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clipnorm": 1.0}, "clipnorm"),
        ({"clipvalue": 1.0}, "clipvalue"),
        ({"global_clipnorm": 1.0}, "global_clipnorm"),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps=2"),
        (
            {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.1, 9, 0.9)},
            "learning_rate.*ExponentialDecay",
        ),
    ],
)
def test_other_dynamics_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        small_sweep(least_squares(**arguments))


def test_other_optimizers_models_and_data_are_refused():
    model = least_squares()
    with pytest.raises(TypeError, match="dataset"):
        small_sweep(model, PROBLEM.x)
    model.compile(optimizer="sgd", loss="mse")
    with pytest.raises(ValueError, match="sweep.*FDRSGD.*SGD"):
        small_sweep(model)


def test_something_else_for_a_model_is_refused():
    with pytest.raises(TypeError, match="model.*str"):
        small_sweep("model")


def test_progress_bar(capsys):
    model = least_squares()
    small_sweep(model)
    assert capsys.readouterr() == ("", "")
    small_sweep(model, initial=(0.1, 3), verbose=1)
    shown = capsys.readouterr().out
    assert "17/17" in shown and "epoch" in shown


def test_progress_is_told_of_every_epoch(tmp_path):
    """Of finished stages too, so that several processes add up to the same number."""
    model, told = least_squares(), []
    arguments = {"initial": (0.1, 2), "directory": tmp_path, "progress": told.append}
    small_sweep(model, **arguments)
    assert told == [1] * (2 + 2 * (4 + 3))
    told.clear()
    small_sweep(model, **arguments)
    assert told == [2, 4, 3, 4, 3]
