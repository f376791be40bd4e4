"""Every process collects the same tests, under names that are short enough to read and to type."""

import re
from pathlib import Path

import pytest

from imgpipeline_tests.parameter_ids import LONGEST_ID, LONGEST_VALUE, short_id

REPOSITORY = Path(__file__).resolve().parents[1]


def test_ids_are_short_and_hold_no_escaped_characters(request):
    bracketed = {item.nodeid: re.search(r"\[(.*)\]$", item.nodeid, re.DOTALL) for item in request.session.items}
    wrong = [name for name, found in bracketed.items() if found and (len(found[1]) > LONGEST_ID or "\\" in found[1])]
    assert wrong == []


@pytest.mark.parametrize(
    ("value", "name"),
    [
        pytest.param(b"\x1f\x8b\x08\x00\x89", "data", id="bytes"),
        pytest.param("a,b\n1,2", "a,b_1,2", id="lines"),
        pytest.param("x" * 100, "x" * LONGEST_VALUE, id="long text"),
        pytest.param("犬 🐕", "data", id="other scripts"),
        pytest.param("", "data", id="nothing"),
        pytest.param(5, None, id="number"),
    ],
)
def test_a_value_is_named_by_its_readable_characters(value, name):
    assert short_id(value, "data") == name
