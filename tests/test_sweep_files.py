"""The files of a sweep: one process writes them, and damage is noticed."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sweep_cases import least_squares, small_sweep

from keras_fdr.files import write_atomically
from keras_fdr.landscape import SweepResults

# The child tells that it has begun, and then holds the directory until it is killed.
CHILD = """
import sys, time
from pathlib import Path
from sweep_cases import least_squares, small_sweep

def hold(epochs):
    Path(sys.argv[2]).touch()
    time.sleep(600)

small_sweep(least_squares(), directory=sys.argv[1], progress=hold)
"""


@pytest.fixture(scope="module")
def model():
    return least_squares()


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory):
    """The content of each file of a finished sweep, and its table."""
    directory = tmp_path_factory.mktemp("finished")
    results = small_sweep(model, directory=directory)
    return {path.name: path.read_bytes() for path in directory.iterdir()}, results


@pytest.fixture
def directory(finished, tmp_path):
    """A copy of the finished sweep that a test may damage."""
    for name, content in finished[0].items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def opens_with_other_numbers(path, content, wanted):
    """Whether damaged content is taken for a table other than the one written."""
    path.write_bytes(content)
    try:
        found = SweepResults.load(path)
    except ValueError as error:
        assert repr(str(path)) in str(error)
        return False
    return found != wanted


def test_no_flipped_bit_changes_a_number(finished, tmp_path):
    files, wanted = finished
    content = files["sweep.json"]
    bits = np.random.default_rng(0).permutation(8 * len(content))[:3000]
    wrong = []
    for bit in bits:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        if opens_with_other_numbers(tmp_path / "sweep.json", damaged, wanted):
            wrong.append(int(bit))
    assert wrong == []


def test_no_other_digit_changes_a_number(finished, tmp_path):
    files, wanted = finished
    content = files["sweep.json"]
    wrong = []
    for place in [match.start() for match in re.finditer(rb"\d", content)]:
        damaged = bytearray(content)
        damaged[place] = ord("0") + (damaged[place] - ord("0") + 1) % 10
        if opens_with_other_numbers(tmp_path / "sweep.json", damaged, wanted):
            wrong.append(place)
    assert wrong == []


@pytest.mark.parametrize("part", ["settings", "rows"])
def test_checksum_covers(model, directory, part):
    """A row is missing, or a setting has changed, in a file that is valid JSON."""
    path = directory / "sweep.json"
    table = json.loads(path.read_text())
    if part == "rows":
        table["rows"].pop()
    else:
        table["settings"]["momentum"] = 0.5
    path.write_text(json.dumps(table))
    with pytest.raises(ValueError, match=r"sweep\.json.*not those that were written"):
        small_sweep(model, directory=directory)


def test_layout_is_not_covered(finished, directory):
    """A file that a formatter has changed holds the same numbers."""
    path = directory / "sweep.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4, sort_keys=True))
    assert SweepResults.load(path) == finished[1]


def test_table_without_checksum_opens(model, finished, directory):
    """Older versions wrote none."""
    path = directory / "sweep.json"
    table = json.loads(path.read_text())
    del table["checksum"]
    path.write_text(json.dumps(table))
    assert small_sweep(model, directory=directory) == finished[1]


def test_table_with_notes_opens(finished, directory):
    """Files of the examples also say when they were made, and with what."""
    path = directory / "sweep.json"
    table = {"commit": "1a2b3c4", "seconds": 12, **json.loads(path.read_text())}
    path.write_text(json.dumps(table))
    assert SweepResults.load(path) == finished[1]
    table["rows"][0]["full_batch_dissipation"] += 1
    path.write_text(json.dumps(table))
    with pytest.raises(ValueError, match=r"sweep\.json.*not those that were written"):
        SweepResults.load(path)


@pytest.mark.parametrize("text", ["", "null", "[]", '{"settings": {}, "rows": 3}'])
def test_other_json_is_refused(tmp_path, text):
    path = tmp_path / "sweep.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"A table must be .*sweep\.json"):
        SweepResults.load(path)


@pytest.mark.parametrize("damage", ["empty", "half", "bit"])
def test_damaged_weights_are_refused(model, directory, damage):
    path = directory / "seed_1.npz"
    content = bytearray(path.read_bytes())
    if damage == "bit":
        content[len(content) // 2] ^= 1
    else:
        del content[len(content) // 2 if damage == "half" else 0 :]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"A file of weights must .*seed_1\.npz"):
        small_sweep(model, directory=directory)


def test_file_in_place_of_a_directory_is_refused(model, tmp_path):
    path = tmp_path / "taken"
    path.write_text("mine")
    with pytest.raises(ValueError, match="`directory` must be .*which is a file"):
        small_sweep(model, directory=path)
    assert path.read_text() == "mine"


def test_lock_ends_with_an_error(model, directory, finished):
    """A refused call does not keep the directory from the next one."""
    with pytest.raises(ValueError, match="batch_size"):
        small_sweep(model, directory=directory, batch_size=5)
    assert small_sweep(model, directory=directory) == finished[1]


@pytest.mark.process
def test_second_process_is_refused_until_the_first_dies(model, finished, tmp_path):
    directory, begun = tmp_path / "sweep", tmp_path / "begun"
    here = str(Path(__file__).parent)
    paths = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(directory), str(begun)],
        env=os.environ | {"PYTHONPATH": paths},
    )
    try:
        end = time.monotonic() + 120
        while not begun.exists():
            assert child.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        before = (directory / "sweep.json").read_bytes()
        message = f"{re.escape(repr(str(directory)))}, which is in use by process"
        with pytest.raises(ValueError, match=f"{message} {child.pid}"):
            small_sweep(model, directory=directory)
        assert (directory / "sweep.json").read_bytes() == before
    finally:
        child.kill()
        child.wait()
    assert small_sweep(model, directory=directory) == finished[1]


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    """Otherwise a power cut could leave an empty file under the new name."""
    order = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)

        def noted(*arguments, name=name, original=original):
            order.append(name)
            return original(*arguments)

        monkeypatch.setattr(os, name, noted)
    write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    assert (tmp_path / "file").read_bytes() == b"new"
    assert order[:2] == ["fsync", "replace"]
