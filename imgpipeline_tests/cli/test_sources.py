"""`imgpipeline sources` shows the accounting of the sources without Kafka, from the store alone."""

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imgpipeline.contracts.notices import NoticeKind
from imgpipeline.contracts.times import utc_now
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.ledger.samples import dead_letter, write_chain
from imgpipeline_tests.ledger.sessions import account, said, shot

pytestmark = pytest.mark.medium

OpenStore = Callable[[dict[str, str]], ObjectStore]
STARTED, ENDED = NoticeKind.STARTED, NoticeKind.ENDED


def test_books_that_balance(folder_site: dict[str, str], store_of: OpenStore, tmp_path: Path):
    notices = [account(2, 1, gated=1, dropped={"queue": 2}), said(3, ENDED)]
    write_chain(store_of(folder_site), [said(0, STARTED), shot(1), *notices])
    ended = run("sources", "books", "--day", "2026-01-09", "--json", env=folder_site, cwd=tmp_path)
    (entry,) = ended.json()
    assert (ended.status, entry["received"], entry["announced"], entry["in_ledger"]) == (0, 4, 1, 1)
    assert (entry["dropped"], entry["state"], entry["difference"]) == ({"queue": 2}, "closed", 0)
    rows = list(csv.DictReader(io.StringIO(run("sources", "books", "--csv", env=folder_site, cwd=tmp_path).stdout)))
    assert [(row["source"], row["session"], row["dropped"]) for row in rows] == [("cam-1", "b3f0", '{"queue": 2}')]
    table = run("sources", "books", env=folder_site, cwd=tmp_path)
    assert "queue 2" in table.stdout
    assert run("sources", "books", "--source", "cam-2", env=folder_site, cwd=tmp_path).stderr.startswith("There is no")


def test_books_that_do_not_balance_fail_and_name_the_session(
    folder_site: dict[str, str], store_of: OpenStore, tmp_path: Path
):
    write_chain(store_of(folder_site), [said(0, STARTED), shot(1), account(2, 2), said(3, ENDED)])
    ended = run("sources", "books", env=folder_site, cwd=tmp_path)
    assert ended.status == 1
    assert "WRONG: cam-1, session b3f0, 2026-01-09: 2 announced frames, but 1 record in the ledger" in ended.stderr


def test_status_from_the_store_alone(folder_site: dict[str, str], store_of: OpenStore, tmp_path: Path):
    store = store_of(folder_site)
    assert "No source" in run("sources", "status", env=folder_site, cwd=tmp_path).stderr
    today = utc_now().date()
    write_chain(store, [said(0, STARTED, day=today), said(1, NoticeKind.OFFLINE, reason="no route", day=today)])
    ended = run("sources", "status", "--json", env=folder_site, cwd=tmp_path)
    (found,) = ended.json()
    assert (found["source"], found["state"], found["reason"]) == ("cam-1", "offline", "no route")
    assert (found["frames_today"], found["observed_today_s"]) == (0, 0)
    assert "no route" in run("sources", "status", env=folder_site, cwd=tmp_path).stdout


def test_hours_tell_an_hour_without_frames_from_one_that_was_not_observed(
    folder_site: dict[str, str], store_of: OpenStore, tmp_path: Path
):
    letter = dead_letter(2)
    late = replace(letter, timestamp=letter.timestamp and letter.timestamp.replace(hour=15))
    write_chain(store_of(folder_site), [said(0, STARTED), account(1, 0, observed_s=60), late])
    ended = run("summary", "hours", "--json", env=folder_site, cwd=tmp_path)
    seen = {row["hour"]: (row["frames"], row["observed_s"]) for row in ended.json()}
    assert seen == {12: (0, 60), 15: (0, None)}
    lines = run("summary", "hours", env=folder_site, cwd=tmp_path).stdout.splitlines()
    assert ["60 s" in line for line in lines if "12:00" in line] == [True]
    assert ["not observed" in line for line in lines if "15:00" in line] == [True]
