"""The table of long tests: every name is that of a test, and every n-th case stays."""

from pathlib import Path

import pytest
from lanes import EVERY, wide_cases

TESTS = Path(__file__).parent


@pytest.mark.parametrize("name", EVERY)
def test_names_are_those_of_tests(name):
    file, _, test = name.partition("::")
    assert f"\ndef {test}(" in (TESTS / file).read_text()
    assert EVERY[name] > 1


def test_every_nth_case_from_the_first_stays():
    name = next(name for name, every in EVERY.items() if every == 3)
    names = ["other::test", *[name] * 7, "other::test"]
    assert wide_cases(names) == [2, 3, 5, 6]
