"""Summaries of days and spans of days are printed as table, JSON and CSV, and are the sum of their days."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from imgpipeline.cli.app import app
from imgpipeline.cli.output import size_bar
from imgpipeline.contracts.keys import day_table_key
from imgpipeline.contracts.notices import Account, Notice, NoticeKind
from imgpipeline.contracts.outcomes import Frame, FrameStatus
from imgpipeline.lake.build.day_tables import rebuild_day
from imgpipeline.lake.build.summaries import SUMMARIES, build_summary
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.cli.samples import CAR, DOG, NEXT_DAY, seen
from imgpipeline_tests.ledger.samples import DAY, NOON, append, dead_letter, write_chain
from imgpipeline_tests.objectstore.stores import folder_settings

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
def test_label_counts_are_those_of_each_hour(filled: dict[str, str], tmp_path: Path):
    expected = Counter((frame.timestamp.replace(minute=0, second=0, microsecond=0), found.label)
                       for frame in FRAMES for found in frame.detections)  # fmt: skip
    rows = run("summary", "label-counts", "--json", env=filled, cwd=tmp_path).json()
    assert [(row["hour"], row["label"], row["count"]) for row in rows] == sorted(
        (f"{hour:%Y-%m-%dT%H:%M:%S}.000000Z", label, count) for (hour, label), count in expected.items()
    )
    assert rows[0]["models"] == ["demo abababab >0.5"]


@pytest.mark.medium
def test_counts_by_source_label_hour_and_day(filled: dict[str, str], ask: Callable[..., Result]):
    found = [(frame, each.label) for frame in FRAMES for each in frame.detections]
    counted = Counter((f"{frame.day}", frame.source, label) for frame, label in found)
    rows = json.loads(ask(filled, "summary", "label-counts", "--by", "source,label", "--by", "day", "--json").stdout)
    assert {(row["day"], row["source"], row["label"]): row["count"] for row in rows} == counted
    only = ("--source", "yard", "--source", "nobody", "--label", "car", "--by", "hour")
    rows = json.loads(ask(filled, "summary", "label-counts", *only, "--json").stdout)
    assert [(row["hour"], row["count"], row["distinct_frames"]) for row in rows] == [
        ("2026-01-10T09:00:00.000000Z", 2, 1),
    ]
    rows = json.loads(ask(filled, "summary", "label-totals", "--by", "source", "--json").stdout)
    assert {row["source"]: row["count"] for row in rows} == Counter(frame.source for frame, _ in found)


@pytest.mark.medium
def test_counts_of_one_source_in_local_time_are_those_of_pandas(ask: Callable[..., Result], tmp_path: Path):
    """`--timezone Asia/Kolkata`, counted independently in the Parquet files of detections."""
    settings = folder_settings(tmp_path)
    filled = {"IMGPIPELINE_STORE_URL": fill(settings), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    store = open_store(settings)
    for day in (DAY, NEXT_DAY, THIRD_DAY):
        rebuild_day(store, day, now=NOON)
    stored = (store.get(day_table_key("detections", day)) for day in (DAY, NEXT_DAY, THIRD_DAY))
    found = pd.concat([pd.read_parquet(io.BytesIO(data)) for data in stored], ignore_index=True)
    local = found["timestamp"].dt.tz_convert("Asia/Kolkata")
    local_hours = pd.Series([f"{at:%Y-%m-%dT%H}:00:00+05:30" for at in local], index=found.index)
    for source in ("cam-1", "yard"):
        for day in ("2026-01-09", "2026-01-10", "2026-01-11"):
            chosen = (found["source"] == source) & (local.dt.date == date.fromisoformat(day))
            expected = found[chosen].groupby([local_hours[chosen], "label"]).size().to_dict()
            only = ("--source", source, "--timezone", "Asia/Kolkata", "--day", day)
            rows = json.loads(ask(filled, "summary", "label-counts", *only, "--json").stdout)
            assert {(row["hour"], row["label"]): row["count"] for row in rows} == expected
    lines = ask(filled, "summary", "label-counts", "--timezone", "Asia/Kolkata", "--by", "hour").stdout
    assert "2026-01-09 12:00+05:30" in lines


@pytest.mark.medium
def test_a_time_zone_that_does_not_exist_is_a_usage_error(filled: dict[str, str], ask: Callable[..., Result]):
    ended = ask(filled, "summary", "hours", "--timezone", "Asia/Kolkatta")
    assert ended.exit_code == 2
    assert "Asia/Kolkata" in ended.stderr


@pytest.mark.medium
def test_the_table_of_counts_has_the_asked_columns(filled: dict[str, str], ask: Callable[..., Result]):
    lines = ask(filled, "summary", "label-counts", "--by", "source", "--day", "2026-01-10").stdout.splitlines()
    assert [cell.strip() for cell in lines[1].strip("┃").split("┃")][:4] == ["source", "count", "sources", "first"]
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
    assert "2026-01-09 13:00 │     0 │" in ask(env, "summary", "label-counts", "--label", "boat", "--by", "hour").stdout
    totals = json.loads(ask(env, "summary", "label-totals", "--json").stdout)
    assert [(row["label"], row["count"], row["observed_s"]) for row in totals] == [("car", 1, 3600.0)]
    sources = {row["source"]: row for row in json.loads(ask(env, "summary", "sources", "--json").stdout)}
    assert (sources["yard"]["frames"], sources["yard"]["observed_s"]) == (0, 3600.0)
    assert "not observed" in ask(env, "summary", "sources").stdout


@pytest.mark.medium
@pytest.mark.parametrize(
    ("options", "days"),
    [([], {DAY, NEXT_DAY, THIRD_DAY}), (["--day", "2026-01-09"], {DAY}), (SPAN, {NEXT_DAY, THIRD_DAY})],
)
def test_totals_are_the_sum_of_the_days(filled: dict[str, str], tmp_path: Path, options: list[str], days: set[date]):
    expected = Counter(found.label for frame in FRAMES if frame.day in days for found in frame.detections)
    rows = run("summary", "label-totals", *options, "--json", env=filled, cwd=tmp_path).json()
    assert [(row["label"], row["count"]) for row in rows] == sorted(
        expected.items(), key=lambda item: (-item[1], item[0])
    )
    assert {date.fromisoformat(row["last_day"]) for row in rows} <= days


@pytest.mark.medium
def test_hours_count_frames_and_detections_of_the_day(filled: dict[str, str], tmp_path: Path):
    frames = Counter(frame.timestamp.hour for frame in FRAMES)
    detections = Counter(frame.timestamp.hour for frame in FRAMES for _ in frame.detections)
    ended = run("summary", "hours", "--json", env=filled, cwd=tmp_path)
    rows = ended.json()
    assert {row["hour"]: row["frames"] for row in rows if row["frames"]} == frames
    assert {row["hour"]: row["detections"] for row in rows if row["detections"]} == detections
    assert [(row["hour"], row["dead_letters"]) for row in rows if row["dead_letters"]] == [(12, 1)]
    assert [row["hour"] for row in rows] == [7, 9, 12, 23]
    assert ended.stderr == (
        "On 2026-01-10 more than one model or threshold was in use: demo abababab >0.5, demo abababab >0.6.\n"
    )


@pytest.mark.medium
def test_sizes_are_a_histogram_without_holes(filled: dict[str, str], tmp_path: Path):
    rows = list(csv.DictReader(io.StringIO(run("summary", "sizes", "--csv", env=filled, cwd=tmp_path).stdout)))
    bins = [(int(row["from_bytes"]), int(row["below_bytes"]), int(row["frames"])) for row in rows]
    assert [(low, high) for low, high, _ in bins] == [(2**n, 2 ** (n + 1)) for n in range(9, 17)]
    assert [count for _, _, count in bins] == [
        sum(low <= (frame.size_bytes or 0) < high for frame in FRAMES) for low, high, _ in bins
    ]


@pytest.mark.medium
def test_sizes_are_drawn_as_bars(filled: dict[str, str], tmp_path: Path):
    ended = run("summary", "sizes", env=filled, cwd=tmp_path)
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in ended.stdout.splitlines() if "│" in line]
    assert cells[0] == ["512 B to 1 KiB", "3", "█" * 30]
    assert cells[1] == ["1 KiB to 2 KiB", "0", ""]
    assert cells[7] == ["64 KiB to 128 KiB", "1", "█" * 10]


@pytest.mark.medium
def test_sources_have_their_first_and_last_time(filled: dict[str, str], tmp_path: Path):
    rows = run("summary", "sources", "--json", env=filled, cwd=tmp_path).json()
    expected = Counter(frame.source for frame in FRAMES)
    assert {row["source"]: row["frames"] for row in rows} == expected
    first, second = rows
    assert (first["days"], first["gated"], first["dead_letters"]) == (3, 1, 1)
    assert (second["source"], second["active_hours"], second["longest_pause_s"]) == ("yard", 1, pytest.approx(2.002))
    assert second["models"] == ["demo abababab >0.5", "demo abababab >0.6"]


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


@pytest.mark.medium
def test_a_day_without_frames_says_so(filled: dict[str, str], tmp_path: Path):
    ended = run("summary", "sizes", "--day", "2025-01-09", env=filled, cwd=tmp_path)
    assert (ended.status, ended.stdout, ended.stderr) == (0, "", "There is no data (2025-01-09).\n")


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
    assert "0.7 to 1.1" in table  # kB
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
