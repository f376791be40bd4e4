"""The report of a local day counts the frames of that day by local hours."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from imgpipeline.errors import PermanentError
from imgpipeline.objectstore import ObjectStore
from imgpipeline.reports.build import current_page
from imgpipeline.reports.figures import read_headline
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_tracks
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import dead_letter, write_chain
from imgpipeline_tests.reports.conftest import audit_all, build_tables
from imgpipeline_tests.reports.reading import ReadPage, assert_self_contained

CASES = {
    "half hour": ("Asia/Kolkata", date(2026, 1, 9)),
    "25 hours": ("Europe/Berlin", date(2026, 10, 25)),
}
cases = pytest.mark.parametrize(("zone", "day"), CASES.values(), ids=list(CASES))


def write_days(store: ObjectStore, settings: Settings, day: date) -> list[tuple[datetime, str, str]]:
    """Write three days of two cameras, the middle one built; return time, source and label of each detection."""
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=1)
    times = [begin + timedelta(minutes=17 * n) for n in range(254)]
    frames = [
        seen(n, ["car", "dog", "car"][: n % 4], at.date(), timestamp=at, source=("gate", "road")[n % 2],
             frame_id=f"{n:032x}")
        for n, at in enumerate(times)
    ]  # fmt: skip
    write_chain(store, frames, [dead_letter(254, day), dead_letter(255, day + timedelta(days=2))])
    build_tables(store, settings, day)
    return [(f.timestamp, f.source, d.label) for f in frames for d in f.detections]


def read(store: ObjectStore, settings: Settings, zone: str, day: date, tmp_path: Path) -> tuple[bytes, ReadPage]:
    local = settings.model_copy(update={"timezone": zone})
    html = current_page(store, local, day, now=datetime(2026, 12, 1, tzinfo=UTC), cache_dir=tmp_path / "cache")
    return html, ReadPage(html)


@pytest.mark.medium
@cases
def test_the_numbers_are_those_of_the_local_day(
    store: ObjectStore, settings: Settings, tmp_path: Path, zone: str, day: date
):
    found = [(at.astimezone(ZoneInfo(zone)), source, label) for at, source, label in write_days(store, settings, day)]
    of_day = [row for row in found if row[0].date() == day]
    html, page = read(store, settings, zone, day, tmp_path)
    headline = read_headline(html)
    assert headline is not None
    assert (headline.detections, headline.timezone) == (len(of_day), zone)
    hours = list(dict.fromkeys((at.hour, at.utcoffset()) for at, _, _ in found if at.date() == day))
    assert [int(name[:2]) for name in headline.hour_names] == [hour for hour, _ in hours]
    counted = Counter((label, (at.hour, at.utcoffset())) for at, _, label in of_day)
    header, *rows = page.section("Labels over the day")
    assert header[1:] == list(headline.hour_names)
    shown = {(row[0], hour): int(cell) for row in rows for hour, cell in zip(hours, row[1:], strict=True)}
    assert {key: count for key, count in shown.items() if count} == counted
    _, *rows = page.section("Labels by source")
    assert {row[0]: int(row[-1]) for row in rows} == Counter(source for _, source, _ in of_day)
    first = min(at for at, _, label in of_day if label == "dog")
    [dogs] = [row for row in page.section("labels")[1:] if row[0] == "dog"]
    assert dogs[-2] == f"{first:%H:%M:%S}"
    assert page.numbers["dead letters"] == "1"
    assert f"All times are in {zone}." in page.text
    assert_self_contained(page)


@pytest.mark.medium
def test_an_hour_that_is_repeated_is_told_apart_by_its_offset(store: ObjectStore, settings: Settings, tmp_path: Path):
    write_days(store, settings, CASES["25 hours"][1])
    html, page = read(store, settings, *CASES["25 hours"], tmp_path)
    headline = read_headline(html)
    assert headline is not None
    assert headline.hour_names[2:4] == ("02 +02:00", "02 +01:00")
    assert "02–03 +01:00" in [row[0] for row in page.section("Detections by hour and label")]  # noqa: RUF001 - a dash


@pytest.mark.medium
def test_the_audit_is_that_of_the_utc_days(store: ObjectStore, settings: Settings, tmp_path: Path):
    """One of the two is not built, so the tables are behind."""
    first = datetime(2026, 1, 8, 20, tzinfo=UTC)
    frames = [seen(n, ["car"], at.date(), timestamp=at) for n, at in enumerate((first, first + timedelta(hours=8)))]
    write_chain(store, frames)
    build_tables(store, settings, date(2026, 1, 9))
    audit_all(store)
    _, page = read(store, settings, "Asia/Kolkata", date(2026, 1, 9), tmp_path)
    assert "these are the numbers of 2026-01-08 and 2026-01-09" in page.text
    assert "Audit: tables behind the ledger" in page.text
    build_tables(store, settings, date(2026, 1, 8))
    audit_all(store)
    _, page = read(store, settings, "Asia/Kolkata", date(2026, 1, 9), tmp_path)
    assert "Audit: ok" in page.text


@pytest.mark.medium
def test_a_utc_day_that_is_not_tracked_is_named_with_the_command(
    store: ObjectStore, settings: Settings, tmp_path: Path
):
    write_days(store, settings, date(2026, 1, 9))
    build_tracks(store, date(2026, 1, 9), settings=settings, now=datetime(2026, 12, 1, tzinfo=UTC))
    _, page = read(store, settings, "Asia/Kolkata", date(2026, 1, 9), tmp_path)
    assert "Not built for the UTC day 2026-01-08" in page.text
    assert "imgpipeline build --from 2026-01-08 --to 2026-01-09" in page.text


@pytest.mark.medium
def test_a_day_that_does_not_exist_or_is_empty_is_an_error(store: ObjectStore, settings: Settings, tmp_path: Path):
    write_days(store, settings, date(2026, 1, 9))
    with pytest.raises(PermanentError, match="calendar skips that day"):
        read(store, settings, "Pacific/Apia", date(2011, 12, 30), tmp_path)
    with pytest.raises(PermanentError, match="There is nothing for 2026-02-01"):
        read(store, settings, "Asia/Kolkata", date(2026, 2, 1), tmp_path)
