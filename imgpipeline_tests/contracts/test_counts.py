"""A number and its noun."""

import pytest

from imgpipeline.contracts.counts import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 frames"), (1, "1 frame"), (2, "2 frames"), (12345, "12,345 frames")], ids=str
)
def test_a_noun_has_the_form_of_its_number(number: int, text: str):
    assert counted(number, "frame") == text


def test_a_plural_of_its_own_is_used_for_all_but_one():
    assert [counted(number, "entry", "entries") for number in (0, 1, 2)] == ["0 entries", "1 entry", "2 entries"]
