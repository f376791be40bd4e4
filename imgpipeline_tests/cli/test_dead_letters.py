"""Dead letters are found by code, day and source, the latest first, from any store."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from imgpipeline.contracts.outcomes import DeadLetter
from imgpipeline.errors import DeadLetterCode
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.ledger.samples import DAY, NOON, dead_letter, frames, write_chain

NEXT_DAY = date(2026, 1, 10)


def letter(offset: int, **changes: object) -> DeadLetter:
    return replace(dead_letter(offset), timestamp=NOON + timedelta(seconds=offset), **changes)


@pytest.fixture
def filled(folder_site: dict[str, str], store_of: Callable[[dict[str, str]], ObjectStore]) -> dict[str, str]:
    """A ledger with four dead letters, at the offsets 0, 2, 3 and 5."""
    write_chain(
        store_of(folder_site),
        [letter(0), *frames(1, 2), letter(2, code=DeadLetterCode.EMPTY_OBJECT)],
        [letter(3, source="yard", day=NEXT_DAY), *frames(4, 5, NEXT_DAY)],
        [letter(5, day=None, message="bad \x1b[31m name")],
    )
    return folder_site


@pytest.mark.parametrize(
    ("options", "offsets"),
    [
        ([], [5, 3, 2, 0]),
        (["--code", "EMPTY_OBJECT"], [2]),
        (["--day", DAY.isoformat()], [2, 0]),
        (["--day", NEXT_DAY.isoformat()], [3]),
        (["--source", "yard"], [3]),
        (["--limit", "2"], [5, 3]),
        (["--code", "TOO_LARGE"], []),
    ],
)
def test_they_are_found_by_code_day_and_source(
    filled: dict[str, str], tmp_path: Path, options: list[str], offsets: list[int]
):
    ended = run("dead-letters", "list", *options, "--json", env=filled, cwd=tmp_path)
    assert [found["offset"] for found in ended.json()] == offsets
    assert ended.status == 0
    assert ("--limit" in ended.stderr) == ("--limit" in options)


def test_each_says_where_it_came_from_and_what_was_in_it(filled: dict[str, str], tmp_path: Path):
    found = run("dead-letters", "list", "--code", "EMPTY_OBJECT", "--json", env=filled, cwd=tmp_path).json()[0]
    assert (found["topic"], found["partition"], found["offset"]) == ("frames", 0, 2)
    assert found["raw_base64"] == "AAEC"


def test_in_a_table_they_cannot_control_the_terminal(filled: dict[str, str], tmp_path: Path):
    ended = run("dead-letters", "list", env=filled, cwd=tmp_path)
    assert "DECODE_FAILED" in ended.stdout
    assert "\x1b" not in ended.stdout
    assert "bad \\x1b[31m name" in ended.stdout


def test_a_day_that_is_none_is_refused(filled: dict[str, str], tmp_path: Path):
    ended = run("dead-letters", "list", "--day", "yesterday", env=filled, cwd=tmp_path)
    assert ended.status == 1
    assert "--day" in ended.stderr
