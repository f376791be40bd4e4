"""A report is rebuilt only for new inputs; that of a local day counts local hours."""

import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from imgpipeline.contracts.keys import day_table_key, report_key
from imgpipeline.errors import PermanentError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.reports.build import current_page
from imgpipeline.reports.figures import read_headline
from imgpipeline.reports.inputs import report_recipe, reported_days
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_report, build_tracks
from imgpipeline_tests.lake.samples import seen as shot
from imgpipeline_tests.ledger.samples import DAY, append, dead_letter, frame, write_chain
from imgpipeline_tests.reports.conftest import AFTERWARDS, audit_all, build_tables, key_of, picture
from imgpipeline_tests.reports.reading import ReadPage, assert_self_contained
from imgpipeline_tests.reports.samples import seen, write_busy_day


@pytest.mark.medium
def test_the_same_inputs_give_the_same_bytes(store, settings, report, tmp_path):
    write_busy_day(store)
    store.put("images/3.jpg", picture())
    build_tables(store, settings)
    first = store.get(key_of(report()))
    assert not report(force=True, now=AFTERWARDS + timedelta(days=3)).skipped
    assert store.get(report_key(DAY)) == first
    store.delete(report_key(DAY))
    build_report(store, settings, DAY, now=AFTERWARDS, cache_dir=tmp_path / "another cache")
    assert store.get(report_key(DAY)) == first


@pytest.mark.slow
def test_a_report_shows_the_last_audit_of_its_tables(store, settings, report):
    chain = write_chain(store, [seen(0)])
    build_tables(store, settings)
    before = report()
    assert before.manifest.verdict == "not audited"
    text = ReadPage(store.get(key_of(before))).text
    assert "Not audited yet" in text
    assert "imgpipeline audit" in text
    audit_all(store, AFTERWARDS + timedelta(hours=1))
    audited = report()
    assert (audited.skipped, audited.manifest.verdict) == (False, "ok")
    assert "ledger: 2026-01-12 02:30:00 UTC" in ReadPage(store.get(key_of(audited))).text
    append(chain, [seen(1)])
    audit_all(store, AFTERWARDS + timedelta(hours=2))
    assert report(tables=False).manifest.verdict == "behind"
    build_tables(store, settings)
    outdated = report()
    assert outdated.manifest.verdict == "outdated"
    assert "The tables were rebuilt after that audit." in ReadPage(store.get(key_of(outdated))).text
    audit_all(store, AFTERWARDS + timedelta(hours=3))
    assert report().manifest.verdict == "ok"


@pytest.mark.medium
def test_an_audit_without_changes_does_not_rebuild_the_report(store, settings, report):
    write_chain(store, [seen(0)])
    build_tables(store, settings)
    audit_all(store)
    report()
    audit_all(store, AFTERWARDS + timedelta(days=1))
    assert report().skipped


def test_the_error_for_a_day_without_tables_names_the_build_command(store, report):
    write_chain(store, [seen(0)])
    with pytest.raises(PermanentError, match="tables are not built yet") as error:
        report(tables=False)
    assert "dagster asset materialize" in str(error.value.next_step)


@pytest.mark.slow
@pytest.mark.medium
def test_the_next_report_includes_a_summary_that_was_built_later(store, settings, report):
    write_chain(store, [seen(0)])
    rebuild_day(store, DAY, now=AFTERWARDS)
    audit_all(store)
    assert "not built yet" in ReadPage(store.get(key_of(report()))).text
    build_tables(store, settings)
    audit_all(store)
    again = report()
    assert not again.skipped
    assert "not built yet" not in ReadPage(store.get(key_of(again))).text


@pytest.mark.medium
def test_the_end_of_the_day_rebuilds_the_report(store, report):
    write_chain(store, [seen(0)])
    evening = datetime(2026, 1, 9, 23, 59, 59, tzinfo=UTC)
    assert "The day is not over" in ReadPage(store.get(key_of(report(now=evening)))).text
    assert report(now=evening - timedelta(hours=2)).skipped
    midnight = report(now=evening + timedelta(seconds=1))
    assert not midnight.skipped
    assert "The day is not over" not in ReadPage(store.get(key_of(midnight))).text


@pytest.mark.slow
@pytest.mark.medium
def test_another_summary_threshold_rebuilds_the_report(store, settings, report):
    write_chain(store, [seen(0)])
    report()
    stricter = settings.model_copy(update={"summary_threshold": 0.9})
    assert report_recipe(stricter) != report_recipe(settings)
    assert report_recipe(settings.model_copy(update={"linger_s": 1.0})) == report_recipe(settings)
    assert not report(changed=stricter).skipped


@pytest.mark.medium
def test_reading_a_report_stores_none(store, settings, tmp_path):
    write_chain(store, [seen(0)])
    rebuild_day(store, DAY, now=AFTERWARDS)
    catalogue = "metadata_followers/days.json.zst"  # notes how far the ledger was read
    before = {info.key for info in store.list_objects()}
    page = current_page(store, settings, DAY, now=AFTERWARDS, cache_dir=tmp_path / "cache")
    assert ReadPage(page).numbers["frames"] == "1"
    assert {info.key for info in store.list_objects()} - {catalogue} == before
    build_report(store, settings, DAY, now=AFTERWARDS, cache_dir=tmp_path / "cache")
    assert store.get(report_key(DAY)) == page


@pytest.mark.slow
@pytest.mark.medium
def test_an_old_stored_report_is_not_shown(store, settings, tmp_path):
    chain = write_chain(store, [seen(0)])
    rebuild_day(store, DAY, now=AFTERWARDS)
    build_report(store, settings, DAY, now=AFTERWARDS, cache_dir=tmp_path / "cache")
    append(chain, [seen(1)])
    page = current_page(store, settings, DAY, now=AFTERWARDS, cache_dir=tmp_path / "cache")
    assert ReadPage(page).numbers["frames"] == "2"


def test_the_error_for_an_empty_day_names_other_days(store, report):
    with pytest.raises(PermanentError, match="no frames at all"):
        report(tables=False)
    days = [DAY + timedelta(days=n) for n in range(12)]
    write_chain(store, [frame(n, day) for n, day in enumerate(days)])
    assert reported_days(store) == days
    with pytest.raises(PermanentError) as error:
        report(day=date(2026, 2, 1), tables=False)
    assert "There is nothing for 2026-02-01." in error.value.message
    assert "2026-01-13, 2026-01-14" in error.value.message
    assert "(the nearest of 12)" in error.value.message
    assert error.value.next_step == "imgpipeline report --day 2026-01-20"


@pytest.mark.medium
def test_the_report_shows_tables_that_differ_from_the_ledger(store, settings, report, tmp_path):
    write_chain(store, [seen(0), seen(1), seen(2, labels=("dog", "car"))])
    build_tables(store, settings)
    shorter = open_store(Settings(_env_file=None, store_url=(tmp_path / "other").as_uri()))
    write_chain(shorter, [seen(0), seen(1), seen(2)])
    rebuild_day(shorter, DAY, now=AFTERWARDS)
    store.put(day_table_key("detections", DAY), shorter.get(day_table_key("detections", DAY)))
    audit_all(store)
    built = report(tables=False)
    page = ReadPage(store.get(key_of(built)))
    assert built.manifest.verdict == "wrong"
    assert "Do not rely on these numbers" in page.text
    assert ["detections", "4", "3", "different"] in page.section("audit")
    assert re.search(r"lacks \d rows that are in the ledger, such as frame", page.text)


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
        shot(n, ["car", "dog", "car"][: n % 4], at.date(), timestamp=at, source=("gate", "road")[n % 2],
             frame_id=f"{n:032x}")
        for n, at in enumerate(times)
    ]  # fmt: skip
    write_chain(store, frames, [dead_letter(254, day), dead_letter(255, day + timedelta(days=2))])
    build_tables(store, settings, day)
    return [(f.timestamp, f.source, d.label) for f in frames for d in f.detections]


def read_local(store: ObjectStore, settings: Settings, zone: str, day: date, tmp_path: Path) -> tuple[bytes, ReadPage]:
    local = settings.model_copy(update={"timezone": zone})
    html = current_page(store, local, day, now=datetime(2026, 12, 1, tzinfo=UTC), cache_dir=tmp_path / "cache")
    return html, ReadPage(html)


@pytest.mark.slow
@pytest.mark.medium
@cases
def test_the_numbers_are_those_of_the_local_day(store, settings, tmp_path, zone, day):
    found = [(at.astimezone(ZoneInfo(zone)), source, label) for at, source, label in write_days(store, settings, day)]
    of_day = [row for row in found if row[0].date() == day]
    html, page = read_local(store, settings, zone, day, tmp_path)
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
def test_an_hour_that_is_repeated_is_told_apart_by_its_offset(store, settings, tmp_path):
    write_days(store, settings, CASES["25 hours"][1])
    html, page = read_local(store, settings, *CASES["25 hours"], tmp_path)
    headline = read_headline(html)
    assert headline is not None
    assert headline.hour_names[2:4] == ("02 +02:00", "02 +01:00")
    assert "02–03 +01:00" in [row[0] for row in page.section("Detections by hour and label")]  # noqa: RUF001 - a dash


@pytest.mark.medium
def test_the_audit_is_that_of_the_utc_days(store, settings, tmp_path):
    """One of the two is not built, so the tables are behind."""
    first = datetime(2026, 1, 8, 20, tzinfo=UTC)
    frames = [shot(n, ["car"], at.date(), timestamp=at) for n, at in enumerate((first, first + timedelta(hours=8)))]
    write_chain(store, frames)
    build_tables(store, settings, date(2026, 1, 9))
    audit_all(store)
    _, page = read_local(store, settings, "Asia/Kolkata", date(2026, 1, 9), tmp_path)
    assert "these are the numbers of 2026-01-08 and 2026-01-09" in page.text
    assert "Audit: tables behind the ledger" in page.text
    build_tables(store, settings, date(2026, 1, 8))
    audit_all(store)
    _, page = read_local(store, settings, "Asia/Kolkata", date(2026, 1, 9), tmp_path)
    assert "Audit: ok" in page.text


@pytest.mark.medium
def test_a_utc_day_that_is_not_tracked_is_named_with_the_command(store, settings, tmp_path):
    write_days(store, settings, date(2026, 1, 9))
    build_tracks(store, date(2026, 1, 9), settings=settings, now=datetime(2026, 12, 1, tzinfo=UTC))
    _, page = read_local(store, settings, "Asia/Kolkata", date(2026, 1, 9), tmp_path)
    assert "Not built for the UTC day 2026-01-08" in page.text
    assert "imgpipeline build --from 2026-01-08 --to 2026-01-09" in page.text


@pytest.mark.medium
def test_a_day_that_does_not_exist_or_is_empty_is_an_error(store, settings, tmp_path):
    write_days(store, settings, date(2026, 1, 9))
    with pytest.raises(PermanentError, match="calendar skips that day"):
        read_local(store, settings, "Pacific/Apia", date(2011, 12, 30), tmp_path)
    with pytest.raises(PermanentError, match="There is nothing for 2026-02-01"):
        read_local(store, settings, "Asia/Kolkata", date(2026, 2, 1), tmp_path)
