"""Counted nouns in messages."""

import pytest

from imgpipeline.contracts.text import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 frames"), (1, "1 frame"), (2, "2 frames"), (12345, "12,345 frames")], ids=str
)
def test_a_noun_agrees_with_its_number(number: int, text: str):
    assert counted(number, "frame") == text


def test_an_irregular_plural_is_used_for_every_number_but_one():
    assert [counted(number, "entry", "entries") for number in (0, 1, 2)] == ["0 entries", "1 entry", "2 entries"]
