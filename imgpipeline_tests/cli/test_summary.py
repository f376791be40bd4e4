"""`imgpipeline summary`, `query` and `report`: numbers out of the lake, before and after days are built."""

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
from imgpipeline.contracts.notices import Account, Notice, NoticeKind
from imgpipeline.contracts.outcomes import Frame, FrameStatus
from imgpipeline.contracts.times import utc_now
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.schema import ALL
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.cli.command import REPOSITORY, environment, run
from imgpipeline_tests.cli.samples import CAR, DOG, NEXT_DAY, seen
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.ledger.samples import DAY, NOON, append, dead_letter, frame, write_chain
from imgpipeline_tests.objectstore.stores import folder_settings
from imgpipeline_tests.reports.reading import ReadPage
from imgpipeline_tests.reports.samples import seen as report_frame

THIRD_DAY = date(2026, 1, 11)
NAMES = ("label-counts", "label-totals", "hours", "sizes", "sources")
SPAN = ("--from", "2026-01-10", "--to", "2026-01-11")


def made(offset: int, day: date, hour: int, size_bytes: int, *found: object, **changes: object) -> Frame:
    plain = seen(offset, *found, day=day, size_bytes=size_bytes, **changes)  # type: ignore[arg-type]  # what a test gives
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
def filled(stored: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a site with that store."""
    return {"IMGPIPELINE_STORE_URL": stored, "XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.mark.medium
def test_a_time_zone_that_does_not_exist_is_a_usage_error(filled: dict[str, str], ask: Callable[..., Result]):
    ended = ask(filled, "summary", "hours", "--timezone", "Asia/Kolkatta")
    assert ended.exit_code == 2
    assert "Asia/Kolkata" in ended.stderr


@pytest.mark.medium
def test_the_table_of_counts_has_the_asked_columns(filled: dict[str, str], ask: Callable[..., Result]):
    lines = ask(filled, "summary", "label-counts", "--by", "source", "--day", "2026-01-10").stdout.splitlines()
    assert [cell.strip() for cell in lines[1].strip("┃").split("┃")][:3] == ["source", "count", "distinct sources"]
    assert [cell.strip() for cell in lines[3].strip("│").split("│")][:3] == ["yard", "3", "1"]


@pytest.mark.medium
def test_an_unseen_label_differs_from_an_unobserved_hour(ask: Callable[..., Result], tmp_path: Path):
    settings = folder_settings(tmp_path)
    one_o_clock, account = NOON + timedelta(hours=1), Account(received=0, announced=0, observed_s=3600.0)
    watched = Notice(2, NoticeKind.ACCOUNT, "yard", "s", one_o_clock, NOON + timedelta(hours=2), account=account)
    write_chain(open_store(settings), [made(0, DAY, 7, 700, CAR, source="gate"), dead_letter(1), watched])
    env = {"IMGPIPELINE_STORE_URL": settings.store_url, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    rows = json.loads(ask(env, "summary", "label-counts", "--label", "car", "--label", "boat", "--json").stdout)
    assert [(row["hour"][11:13], row["label"], row["count"], row["observed_s"]) for row in rows] == [
        ("07", "car", 1, None),
        ("13", "boat", 0, 3600.0),
        ("13", "car", 0, 3600.0),
    ]
    boats = ask(env, "summary", "label-counts", "--label", "boat", "--by", "hour").stdout
    assert "2026-01-09T13:00:00Z │     0 │" in boats
    totals = json.loads(ask(env, "summary", "label-totals", "--json").stdout)
    assert [(row["label"], row["count"], row["observed_s"]) for row in totals] == [("car", 1, 3600.0)]
    sources = {row["source"]: row for row in json.loads(ask(env, "summary", "sources", "--json").stdout)}
    assert (sources["yard"]["frames"], sources["yard"]["observed_s"]) == (0, 3600.0)
    assert "not observed" in ask(env, "summary", "sources").stdout


@pytest.mark.medium
def test_sizes_are_drawn_as_bars(filled: dict[str, str], tmp_path: Path):
    ended = run("summary", "sizes", env=filled, cwd=tmp_path)
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in ended.stdout.splitlines() if "│" in line]
    assert cells[0] == ["0.512 kB", "1.024 kB", "3", "█" * 30]
    assert cells[1] == ["1.024 kB", "2.048 kB", "0", ""]
    assert cells[7] == ["65.54 kB", "131.1 kB", "1", "█" * 10]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command in this process, which is quicker; its errors would be raised."""

    def ask_in(env: dict[str, str], *arguments: str) -> Result:
        for name, value in {**env, "COLUMNS": "200"}.items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(app, arguments, catch_exceptions=False)

    return ask_in


@pytest.mark.medium
def test_each_summary_is_a_table(filled: dict[str, str], ask: Callable[..., Result]):
    for name in NAMES:
        ended = ask(filled, "summary", name, "--day", "2026-01-09")
        assert (ended.exit_code, ended.stderr) == (0, "")
        assert ended.stdout.startswith("┏")


@pytest.mark.medium
def test_an_empty_lake_has_no_summaries(folder_site: dict[str, str], ask: Callable[..., Result]):
    for name in NAMES:
        ended = ask(folder_site, "summary", name)
        assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "", "There is no data (all days).\n")
        assert ask(folder_site, "summary", name, "--json").stdout == "[]\n"


@pytest.mark.parametrize(("value", "bar"), [(0, ""), (1, "▏"), (500, "█" * 15), (1000, "█" * 30)])
def test_any_value_above_zero_has_a_bar(value: int, bar: str):
    assert size_bar(value, 1000) == bar


@pytest.mark.medium
def test_sizes_in_ten_bins_of_equal_width_and_hours_in_twenty_four(filled: dict[str, str], tmp_path: Path):
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


@pytest.mark.medium
def test_bins_of_a_day_of_another_time_zone_are_refused(filled: dict[str, str], tmp_path: Path):
    asked = ("summary", "sizes", "--bins", "3", "--day", str(DAY), "--timezone", "Asia/Tokyo")
    ended = run(*asked, env=filled, cwd=tmp_path)
    assert ended.status == 2
    assert "Bins of equal width are counted for UTC days, not for those of Asia/Tokyo." in ended.stderr


@pytest.fixture
def two_days(
    folder_site: dict[str, str], store_of: Callable[[dict[str, str]], ObjectStore], tmp_path: Path
) -> dict[str, str]:
    write_chain(
        store_of(folder_site),
        [seen(0, CAR, DOG), seen(1, CAR), dead_letter(2)],
        [seen(3, DOG, day=NEXT_DAY), seen(4)],
    )
    return {**folder_site, "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_the_help_names_every_table(tmp_path: Path):
    shown = " ".join(run("query", "--help", cwd=tmp_path).stdout.replace("│", " ").split())
    assert [table.name for table in ALL if table.name not in shown] == []


def test_any_table_answers_sql(two_days: dict[str, str], tmp_path: Path):
    counts = "(SELECT count(*) FROM frames) AS f, (SELECT sum(frames) FROM segments) AS s"
    sql = f"SELECT {counts}, code, timestamp FROM dead_letters"  # noqa: S608 - all of it stands here
    (row,) = run("query", sql, "--json", env=two_days, cwd=tmp_path).json()
    assert row == {"f": 4, "s": 4, "code": "DECODE_FAILED", "timestamp": "2026-01-09T12:00:00.000000Z"}


@pytest.mark.medium
def test_the_documented_recount_finds_the_file_without_a_frame_and_the_frame_without_a_file(
    folder_site: dict[str, str], store_of: Callable[[dict[str, str]], ObjectStore], tmp_path: Path
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


def test_json_is_strict_and_loses_no_column(two_days: dict[str, str], tmp_path: Path):
    sql = "SELECT 1 AS n, 2 AS n, 'nan'::DOUBLE AS x, [1.5, NULL] AS l, {'k': DATE '2026-01-09'} AS s, 1.25 AS d"
    (row,) = run("query", sql, "--json", env=two_days, cwd=tmp_path).json()
    assert row == {"n": 1, "n_1": 2, "x": None, "l": [1.5, None], "s": {"k": "2026-01-09"}, "d": 1.25}


@pytest.mark.medium
def test_only_the_table_cuts_many_rows(two_days: dict[str, str], tmp_path: Path):
    ended = run("query", "SELECT * FROM range(1500)", env=two_days, cwd=tmp_path)
    assert "1,000 of 1,500 rows" in ended.stderr
    assert len(run("query", "SELECT * FROM range(1500)", "--json", env=two_days, cwd=tmp_path).json()) == 1500


def test_rows_are_printed_as_csv(two_days: dict[str, str], tmp_path: Path):
    sql = "SELECT 1 AS n, NULL AS n, '=1+1' AS f, TIMESTAMPTZ '2026-01-09 12:00Z' AS w, [1] AS l"
    ended = run("query", sql, "--csv", env=two_days, cwd=tmp_path)
    assert ended.stdout == "n,n_1,f,w,l\n1,,'=1+1,2026-01-09T12:00:00.000000Z,[1]\n"


def test_csv_follows_rfc_4180_and_has_no_formulas(capsysbinary: pytest.CaptureFixture[bytes]):
    rows = [[-1.5, "-1"], [None, "two\r\nlines"], [True, float("nan")], [{"k": 1}, "\uff1d1"]]
    RowFormat(as_csv=True).show([dict(zip(("n", 'a "b", c'), row, strict=True)) for row in rows])
    assert capsysbinary.readouterr().out == (
        b'n,"a ""b"", c"\r\n-1.5,\'-1\r\n,"two\r\nlines"\r\ntrue,\r\n"{""k"": 1}",\'\xef\xbc\x9d1\r\n'
    )


@pytest.mark.medium
@pytest.mark.parametrize(
    ("options", "days"),
    [
        (["--day", "2026-01-09"], ["2026-01-09"]),
        (["--from", "2026-01-10"], ["2026-01-10"]),
        (["--from", "2020-01-01", "--to", "2030-01-01"], ["2026-01-09", "2026-01-10"]),
        (["--to", "2020-01-01"], []),
    ],
)
def test_a_query_can_be_limited_to_days(options: list[str], days: list[str], two_days: dict[str, str], tmp_path: Path):
    asked = run("query", "SELECT DISTINCT day FROM frames ORDER BY day", *options, "--json", env=two_days, cwd=tmp_path)
    assert [row["day"] for row in asked.json()] == days


@pytest.fixture
def reported(
    folder_site: dict[str, str], store_of: Callable[[dict[str, str]], ObjectStore], tmp_path: Path
) -> dict[str, str]:
    yesterday = utc_now().date() - timedelta(days=1)
    write_chain(store_of(folder_site), [report_frame(0), report_frame(1)], [frame(2, yesterday)])
    return {**folder_site, "XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.mark.medium
def test_a_report_is_written_to_a_file_and_the_same_to_stdout(reported: dict[str, str], tmp_path: Path):
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


@pytest.mark.medium
def test_the_default_is_the_report_of_yesterday_in_the_working_folder(reported: dict[str, str], tmp_path: Path):
    yesterday = utc_now().date() - timedelta(days=1)
    ended = run("report", env=reported, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    assert ReadPage((tmp_path / f"report-{yesterday}.html").read_bytes()).numbers["frames"] == "1"


def test_a_day_without_data_names_the_known_days(reported: dict[str, str], tmp_path: Path):
    ended = run("report", "--day", "2020-05-05", "--output", str(tmp_path / "day.html"), env=reported, cwd=tmp_path)
    assert ended.status == 1
    assert "There is nothing for 2020-05-05." in ended.stderr
    assert DAY.isoformat() in ended.stderr
    assert "Next: imgpipeline report --day" in ended.stderr
    assert not (tmp_path / "day.html").exists()


@pytest.mark.medium
def test_the_commands_that_are_shown_lead_to_the_frames_behind_a_number(
    folder_site: dict[str, str], store_of: Callable[[dict[str, str]], ObjectStore], tmp_path: Path
):
    label = "a'; touch here\u202e \x80"
    write_chain(
        store_of(folder_site),
        [report_frame(0, labels=(label, label)), report_frame(1, hour=7), report_frame(2, labels=(label,))],
    )
    environment = {**folder_site, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    out = tmp_path / "day.html"
    run("report", "--day", DAY.isoformat(), "--output", out, env=environment, cwd=tmp_path)
    commands = [line for line in ReadPage(out.read_bytes()).texts if line.startswith("imgpipeline ")]
    explain = next(line for line in commands if " explain " in line)
    explained = run(*words(explain), "--json", env=environment, cwd=tmp_path).json()
    assert (explained["label"], explained["hour"], explained["count"]) == (label, 12, 3)
    frames = next(line for line in commands if "explain_frame_stats" in line)
    found = run(*words(frames), "--json", env=environment, cwd=tmp_path).json()
    assert sorted(row["source_image_path"] for row in found) == ["images/0.jpg", "images/2.jpg"]
    assert all(row["segment"].startswith("metadata/") for row in found)


def words(command: str) -> list[str]:
    """Return the arguments of a command as Bash reads them."""
    shown = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    return shown.stdout.decode().split("\0")[1:-1]


@pytest.mark.medium
def test_a_file_that_cannot_be_written_is_an_error(reported: dict[str, str], tmp_path: Path):
    missing = tmp_path / "missing" / "day.html"
    ended = run("report", "--day", DAY.isoformat(), "--output", missing, env=reported, cwd=tmp_path)
    assert ended.status == 1
    assert "cannot be written" in ended.stderr
    assert "--output" in ended.stderr


@pytest.mark.medium
def test_a_pipe_is_not_replaced_by_a_report_and_nothing_is_left_behind(reported: dict[str, str], tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        ended = run("report", "--day", DAY.isoformat(), "--output", tmp_path / name, env=reported, cwd=tmp_path)
        assert ended.status == 1
        assert "not a file" in ended.stderr
    assert (tmp_path / "pipe").is_fifo()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
