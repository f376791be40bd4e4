"""Dead letters are found by code, day and source, the latest first, from any store."""

from dataclasses import replace
from datetime import date, timedelta
from hashlib import sha256

import pytest

from imgpipeline.contracts.outcomes import DeadLetter
from imgpipeline.errors import DeadLetterCode
from imgpipeline.sources.dead_letters import NEXT_STEPS
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.cli.samples import OpenStore
from imgpipeline_tests.ledger.samples import DAY, NOON, dead_letter, frame, frames, write_chain

NEXT_DAY = date(2026, 1, 10)


def letter(offset: int, **changes: object) -> DeadLetter:
    return replace(dead_letter(offset), timestamp=NOON + timedelta(seconds=offset), **changes)


@pytest.fixture
def filled(folder_site: dict[str, str], store_of: OpenStore) -> dict[str, str]:
    """A ledger with four dead letters, at the offsets 0, 2, 3 and 5."""
    write_chain(
        store_of(folder_site),
        [letter(0), *frames(1, 2), letter(2, code=DeadLetterCode.EMPTY_OBJECT)],
        [letter(3, source="yard", day=NEXT_DAY), *frames(4, 5, NEXT_DAY)],
        [letter(5, day=None, message="bad \x1b[31m name")],
    )
    return folder_site


@pytest.mark.medium
def test_dead_letters_are_filtered_by_code_day_and_source(filled, tmp_path):
    def offsets(*options: str) -> list[int]:
        ended = run("dead-letters", "list", *options, "--json", env=filled, cwd=tmp_path)
        assert ("--limit" in ended.stderr) == ("--limit" in options)
        return [found["offset"] for found in ended.json()]

    assert offsets() == [5, 3, 2, 0]
    assert offsets("--code", "EMPTY_OBJECT") == [2]
    assert offsets("--day", DAY.isoformat()) == [2, 0]
    assert offsets("--source", "yard") == [3]
    assert offsets("--limit", "2") == [5, 3]
    assert offsets("--code", "TOO_LARGE") == []


def test_a_dead_letter_is_shown_in_full_with_its_next_step(filled, tmp_path):
    ended = run("dead-letters", "show", "frames/0/5", "--raw", "value.bin", env=filled, cwd=tmp_path)
    for said in ("DECODE_FAILED", "bad \\x1b[31m name", "metadata/frames/", "run-1", "demo abab", "open", "replay`"):
        assert said in ended.stdout
    assert "00000000  00 01 02" in ended.stdout
    assert (tmp_path / "value.bin").read_bytes() == b"\x00\x01\x02"
    listed = run("dead-letters", "list", env=filled, cwd=tmp_path).stdout
    assert ("\x1b" in listed + ended.stdout, "bad \\x1b[31m name" in listed) == (False, True)
    again = run("dead-letters", "show", "frames/0/5", "--raw", "value.bin", env=filled, cwd=tmp_path)
    assert (again.status, "new file" in again.stderr) == (1, True)


def test_a_dead_letter_is_shown_as_json_and_another_record_refused(filled, tmp_path):
    page = run("dead-letters", "show", "frames/0/2", "--json", env=filled, cwd=tmp_path).json()
    assert (page["topic"], page["partition"], page["offset"], page["run_id"]) == ("frames", 0, 2, "run-1")
    assert (page["code"], page["state"], page["raw_base64"]) == ("EMPTY_OBJECT", "open", "AAEC")
    assert page["raw_sha256"] == sha256(b"\x00\x01\x02").hexdigest()
    assert page["segment"].startswith("metadata/frames/")
    assert page["next_step"]
    ended = run("dead-letters", "show", "frames/0/1", env=filled, cwd=tmp_path)
    assert (ended.status, "is not a dead letter" in ended.stderr) == (1, True)


@pytest.mark.medium
def test_replayed_dead_letters_are_listed_on_request(folder_site, store_of, tmp_path):
    good = replace(frame(1), replay_of="frames/0/0")
    write_chain(store_of(folder_site), [letter(0), good, letter(2)])
    ended = run("dead-letters", "list", env=folder_site, cwd=tmp_path)
    assert (ended.stdout.count("DECODE_FAILED"), "--all" in ended.stderr) == (1, True)
    every = run("dead-letters", "list", "--all", env=folder_site, cwd=tmp_path)
    assert "resolved │ frames/0/1" in every.stdout
    page = run("dead-letters", "show", "frames/0/0", env=folder_site, cwd=tmp_path)
    assert "nothing: it was announced again" in page.stdout


def test_every_code_has_a_next_step():
    assert set(NEXT_STEPS) == set(DeadLetterCode)
