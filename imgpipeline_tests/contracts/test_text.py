"""Counted nouns in messages, and values as JSON."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from imgpipeline.contracts.text import counted, plain


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 frames"), (1, "1 frame"), (2, "2 frames"), (12345, "12,345 frames")], ids=str
)
def test_a_noun_agrees_with_its_number(number, text):
    assert counted(number, "frame") == text


def test_an_irregular_plural_is_used_for_every_number_but_one():
    assert [counted(number, "entry", "entries") for number in (0, 1, 2)] == ["0 entries", "1 entry", "2 entries"]


@dataclass(frozen=True, slots=True)
class Found:
    where: Path
    at: datetime | None = None
    score: float = 0.5
    parts: "tuple[Found, ...]" = ()


def test_a_dataclass_becomes_an_object_with_its_fields():
    inner = Found(Path("b.jpg"), datetime(2026, 1, 9, 12, tzinfo=UTC), float("nan"))
    assert plain({date(2026, 1, 9): Found(Path("a.jpg"), parts=(inner,))}) == {
        "2026-01-09": {
            "where": "a.jpg",
            "at": None,
            "score": 0.5,
            "parts": [{"where": "b.jpg", "at": "2026-01-09T12:00:00.000000Z", "score": None, "parts": []}],
        }
    }
