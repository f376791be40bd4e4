"""`imgpipeline build`, `summary`, `query` and `report`: numbers out of the lake, before and after days are built."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from imgpipeline.cli.app import app
from imgpipeline.cli.options import RowFormat
from imgpipeline.cli.output import size_bar
from imgpipeline.contracts.keys import report_key, summary_key
from imgpipeline.contracts.notices import Account, Notice, NoticeKind
from imgpipeline.contracts.outcomes import Frame, FrameStatus
from imgpipeline.contracts.times import utc_now
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.schema import ALL
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.cli.command import REPOSITORY, environment, run
from imgpipeline_tests.cli.samples import CAR, DOG, NEXT_DAY, OpenStore, seen
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.ledger.samples import DAY, NOON, append, dead_letter, frame, write_chain
from imgpipeline_tests.objectstore.stores import folder_settings
from imgpipeline_tests.reports.reading import ReadPage
from imgpipeline_tests.reports.samples import seen as report_frame

pytestmark = pytest.mark.medium

THIRD_DAY = date(2026, 1, 11)
NAMES = ("label-counts", "label-totals", "hours", "sizes", "sources")
SPAN = ("--from", "2026-01-10", "--to", "2026-01-11")


def made(offset: int, day: date, hour: int, size_bytes: int, *found: object, **changes: object) -> Frame:
    plain = seen(offset, *found, day=day, size_bytes=size_bytes, **changes)
    return replace(plain, timestamp=plain.timestamp.replace(hour=hour) + timedelta(seconds=offset))


BUILT = [
    made(0, DAY, 7, 700, CAR, DOG),
    made(1, DAY, 7, 5_000, CAR),
    made(2, DAY, 9, 5_100),
    made(3, NEXT_DAY, 9, 6_000, DOG, source="yard"),
]
SINCE = [
    made(5, NEXT_DAY, 9, 70_000, CAR, CAR, source="yard", confidence_threshold=0.6),
    made(6, NEXT_DAY, 23, 700, status=FrameStatus.GATED, gate_reason="dark"),
    made(7, THIRD_DAY, 7, 700, DOG),
]
FRAMES = BUILT + SINCE
"""The first day's summaries are current, the second day's are behind, the third day was never built."""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a read-only store with two built days and newer frames."""
    return fill(folder_settings(tmp_path_factory.mktemp("summaries")))


def fill(settings: Settings) -> str:
    store = open_store(settings)
    chain = write_chain(store, [*BUILT, dead_letter(4)])
    for day in (DAY, NEXT_DAY):
        rebuild_day(store, day, now=NOON)
        for name in SUMMARIES:
            build_summary(store, name, day, settings=settings, now=NOON)
    append(chain, SINCE)
    return settings.store_url


@pytest.fixture
def filled(stored: str) -> dict[str, str]:
    """The environment of a site with that store."""
    return {"IMGPIPELINE_STORE_URL": stored}


def test_the_table_of_counts_has_the_asked_columns(filled, ask):
    lines = ask(filled, "summary", "label-counts", "--by", "source", "--day", "2026-01-10").stdout.splitlines()
    assert [cell.strip() for cell in lines[1].strip("┃").split("┃")][:3] == ["source", "count", "distinct sources"]
    assert [cell.strip() for cell in lines[3].strip("│").split("│")][:3] == ["yard", "3", "1"]


def test_an_unseen_label_differs_from_an_unobserved_hour(ask, folder_site, store_of):
    one_o_clock, account = NOON + timedelta(hours=1), Account(received=0, announced=0, observed_s=3600.0)
    watched = Notice(2, NoticeKind.ACCOUNT, "yard", "s", one_o_clock, NOON + timedelta(hours=2), account=account)
    write_chain(store_of(folder_site), [made(0, DAY, 7, 700, CAR, source="gate"), dead_letter(1), watched])
    rows = json.loads(ask(folder_site, "summary", "label-counts", "--label", "car", "--label", "boat", "--json").stdout)
    assert [(row["hour"][11:13], row["label"], row["count"], row["observed_s"]) for row in rows] == [
        ("07", "car", 1, None),
        ("13", "boat", 0, 3600.0),
        ("13", "car", 0, 3600.0),
    ]
    boats = ask(folder_site, "summary", "label-counts", "--label", "boat", "--by", "hour").stdout
    assert "2026-01-09T13:00:00Z │     0 │" in boats
    totals = json.loads(ask(folder_site, "summary", "label-totals", "--json").stdout)
    assert [(row["label"], row["count"], row["observed_s"]) for row in totals] == [("car", 1, 3600.0)]
    sources = {row["source"]: row for row in json.loads(ask(folder_site, "summary", "sources", "--json").stdout)}
    assert (sources["yard"]["frames"], sources["yard"]["observed_s"]) == (0, 3600.0)
    assert "not observed" in ask(folder_site, "summary", "sources").stdout


def test_sizes_are_drawn_as_bars(filled, tmp_path):
    ended = run("summary", "sizes", env=filled, cwd=tmp_path)
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in ended.stdout.splitlines() if "│" in line]
    assert cells[0] == ["0.512 kB", "1.024 kB", "3", "█" * 30]
    assert cells[1] == ["1.024 kB", "2.048 kB", "0", ""]
    assert cells[7] == ["65.54 kB", "131.1 kB", "1", "█" * 10]
    assert size_bar(1, 1000) == "▏", "any value above zero has a bar"


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command in this process, which is quicker; its errors would be raised."""

    def ask_in(env: dict[str, str], *arguments: str) -> Result:
        for name, value in {**env, "COLUMNS": "200"}.items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(app, arguments, catch_exceptions=False)

    return ask_in


def test_each_summary_is_a_table(filled, ask):
    for name in NAMES:
        ended = ask(filled, "summary", name, "--day", "2026-01-09")
        assert (ended.exit_code, ended.stderr) == (0, "")
        assert ended.stdout.startswith("┏")


def test_an_empty_lake_has_no_summaries(folder_site, ask):
    for name in NAMES:
        ended = ask(folder_site, "summary", name)
        assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "", "There is no data (all days).\n")
        assert ask(folder_site, "summary", name, "--json").stdout == "[]\n"


def test_sizes_in_ten_bins_of_equal_width_and_hours_in_twenty_four(filled, tmp_path):
    sizes = [frame.size_bytes for frame in FRAMES]
    counts, edges = np.histogram(sizes, 10)
    ended = run("summary", "sizes", "--bins", "10", "--csv", env=filled, cwd=tmp_path)
    rows = list(csv.DictReader(io.StringIO(ended.stdout)))
    assert [int(row["frames"]) for row in rows] == counts.tolist()
    assert [float(row["from_bytes"]) for row in rows] == edges[:-1].tolist()
    assert [float(row["to_bytes"]) for row in rows] == edges[1:].tolist()
    table = run("summary", "sizes", "--bins", "10", "--day", str(DAY), env=filled, cwd=tmp_path).stdout
    assert "│ 0.7 kB  │ 1.14 kB │" in table
    assert "█" * 30 in table
    hours = json.loads(run("summary", "hours", "--json", env=filled, cwd=tmp_path).stdout)
    assert {row["hour"] for row in hours if row["hour"] is not None} <= set(range(24))
    assert sum(row["frames"] for row in hours) == len(FRAMES)


def test_the_help_names_every_table(tmp_path):
    shown = " ".join(run("query", "--help", cwd=tmp_path).stdout.replace("│", " ").split())
    assert [table.name for table in ALL if table.name not in shown] == []


def test_the_documented_recount_finds_the_file_without_a_frame_and_the_frame_without_a_file(
    folder_site, store_of, tmp_path
):
    (tmp_path / "images").mkdir()
    for name in ("counted", "missing"):
        (tmp_path / "images" / f"{name}.jpg").write_text(name)
    counted, unknown, missing = (sha256(name).hexdigest() for name in (b"counted", b"unknown", b"missing"))
    frames = [replace(seen(0), sha256=counted), replace(seen(1), sha256=unknown), seen(2)]
    write_chain(store_of(folder_site), frames)
    page = (REPOSITORY / "docs" / "tables.md").read_text()
    commands = page.split("```bash\n")[1].split("```")[0]
    found = environment(folder_site) | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "LC_ALL": "C"}
    asked = subprocess.run(["bash", "-c", commands], cwd=tmp_path, env=found, capture_output=True, check=True)
    assert sorted(asked.stdout.decode().splitlines()) == sorted([missing, f"\t{unknown}"])


def test_rows_lose_no_column_as_strict_json_or_as_csv_without_formulas(filled, tmp_path):
    sql = "SELECT 1 AS n, 2 AS n, 'nan'::DOUBLE AS x, [1.5, NULL] AS l, {'k': DATE '2026-01-09'} AS s, 1.25 AS d"
    (row,) = run("query", sql, "--json", env=filled, cwd=tmp_path).json()
    assert row == {"n": 1, "n_1": 2, "x": None, "l": [1.5, None], "s": {"k": "2026-01-09"}, "d": 1.25}
    sql = "SELECT 1 AS n, NULL AS n, '=1+1' AS f, TIMESTAMPTZ '2026-01-09 12:00Z' AS w, [1] AS l"
    ended = run("query", sql, "--csv", env=filled, cwd=tmp_path)
    assert ended.stdout == "n,n_1,f,w,l\n1,,'=1+1,2026-01-09T12:00:00.000000Z,[1]\n"


def test_only_the_table_cuts_many_rows(filled, tmp_path):
    ended = run("query", "SELECT * FROM range(1500)", env=filled, cwd=tmp_path)
    assert "1,000 of 1,500 rows" in ended.stderr
    assert len(run("query", "SELECT * FROM range(1500)", "--json", env=filled, cwd=tmp_path).json()) == 1500


def test_csv_follows_rfc_4180_and_has_no_formulas(capsysbinary):
    rows = [[-1.5, "-1"], [None, "two\r\nlines"], [True, float("nan")], [{"k": 1}, "\uff1d1"]]
    RowFormat(as_csv=True).show([dict(zip(("n", 'a "b", c'), row, strict=True)) for row in rows])
    assert capsysbinary.readouterr().out == (
        b'n,"a ""b"", c"\r\n-1.5,\'-1\r\n,"two\r\nlines"\r\ntrue,\r\n"{""k"": 1}",\'\xef\xbc\x9d1\r\n'
    )


def test_a_query_can_be_limited_to_days(filled, tmp_path):
    def days(*options: str) -> list[str]:
        asked = run(
            "query", "SELECT DISTINCT day FROM frames ORDER BY day", *options, "--json", env=filled, cwd=tmp_path
        )
        return [row["day"] for row in asked.json()]

    assert days("--day", "2026-01-09") == ["2026-01-09"]
    assert days("--from", "2026-01-10", "--to", "2030-01-01") == ["2026-01-10", "2026-01-11"]
    assert days("--to", "2020-01-01") == []


@pytest.fixture
def reported(folder_site: dict[str, str], store_of: OpenStore) -> dict[str, str]:
    yesterday = utc_now().date() - timedelta(days=1)
    write_chain(store_of(folder_site), [report_frame(0), report_frame(1)], [frame(2, yesterday)])
    return folder_site


def test_a_report_is_written_to_a_file_and_the_same_to_stdout(reported, tmp_path):
    out = tmp_path / "day.html"
    (tmp_path / "plain").touch()
    ended = run("report", "--day", DAY.isoformat(), "--output", str(out), env=reported, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    assert ended.stdout == ""
    assert str(out) in ended.stderr
    assert ReadPage(out.read_bytes()).numbers["frames"] == "2"
    assert out.stat().st_mode & 0o777 == (tmp_path / "plain").stat().st_mode & 0o777
    assert [path.name for path in tmp_path.glob("*day.html*")] == ["day.html"]
    shown = run("report", "--day", DAY.isoformat(), "--output", "-", env=reported, cwd=tmp_path)
    assert shown.stdout.encode() == out.read_bytes()
    assert not (tmp_path / "store" / "reports").exists()


def test_the_default_is_the_report_of_yesterday_in_the_working_folder(reported, tmp_path):
    yesterday = utc_now().date() - timedelta(days=1)
    ended = run("report", env=reported, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    assert ReadPage((tmp_path / f"report-{yesterday}.html").read_bytes()).numbers["frames"] == "1"


def test_the_commands_that_are_shown_lead_to_the_frames_behind_a_number(folder_site, store_of, tmp_path):
    label = "a'; touch here\u202e \x80"
    write_chain(
        store_of(folder_site),
        [report_frame(0, labels=(label, label)), report_frame(1, hour=7), report_frame(2, labels=(label,))],
    )
    out = tmp_path / "day.html"
    run("report", "--day", DAY.isoformat(), "--output", out, env=folder_site, cwd=tmp_path)
    commands = [line for line in ReadPage(out.read_bytes()).texts if line.startswith("imgpipeline ")]
    explain = next(line for line in commands if " explain " in line)
    explained = run(*words(explain), "--json", env=folder_site, cwd=tmp_path).json()
    assert (explained["label"], explained["hour"], explained["count"]) == (label, 12, 3)
    frames = next(line for line in commands if "explain_frame_stats" in line)
    found = run(*words(frames), "--json", env=folder_site, cwd=tmp_path).json()
    assert sorted(row["source_image_path"] for row in found) == ["images/0.jpg", "images/2.jpg"]
    assert all(row["segment"].startswith("metadata/") for row in found)


def words(command: str) -> list[str]:
    """Return the arguments of a command as Bash reads them."""
    shown = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    return shown.stdout.decode().split("\0")[1:-1]


def test_a_report_that_cannot_be_written_leaves_nothing_behind(reported, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, said in (("pipe", "not a file"), ("folder", "not a file"), ("missing/day.html", "cannot be written")):
        ended = run("report", "--day", DAY.isoformat(), "--output", tmp_path / name, env=reported, cwd=tmp_path)
        assert (ended.status, said in ended.stderr, "--output" in ended.stderr) == (1, True, True), ended.stderr
    assert (tmp_path / "pipe").is_fifo()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_days_are_built_once_and_then_current(folder_site, store_of, tmp_path):
    store = store_of(folder_site)
    write_chain(store, [seen(0, day=DAY)], [seen(1, day=NEXT_DAY)])
    days = ("--from", str(DAY), "--to", str(NEXT_DAY), "--json")
    first, second = (run("build", *days, env=folder_site, cwd=tmp_path).json() for _ in range(2))
    assert {row["day"] for row in first} == {str(DAY), str(NEXT_DAY)}
    assert {row["outcome"] for row in first} == {"built"}
    assert {row["outcome"] for row in second} == {"current"}
    assert first[0]["object"] == "day_tables"
    assert store.head(report_key(DAY)) is not None
    refused = run("build", "--from", "2020-01-01", "--to", "2020-01-02", env=folder_site, cwd=tmp_path)
    assert f"No day of 2020-01-01 to 2020-01-02 has frames. Days that have: {DAY}, {NEXT_DAY}." in refused.stderr


def test_what_cannot_be_built_is_named_and_the_rest_is_built(folder_site, store_of, tmp_path):
    store = store_of(folder_site)
    write_chain(store, [seen(0, day=DAY)])
    store.put(summary_key("label_counts", DAY), b"rotten")
    ended = run("build", "--from", str(DAY), "--to", str(DAY), env=folder_site, cwd=tmp_path)
    assert ended.status == 1
    assert f"1 object could not be built: label_counts of {DAY}." in ended.stderr
    assert store.head(report_key(DAY)) is not None
    assert store.head(summary_key("label_totals", DAY)) is None, "it needs the counts"
