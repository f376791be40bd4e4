"""Every number of a page is the one that plain Python counts in the ledger's segments."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from imgpipeline.contracts.notices import NoticeKind
from imgpipeline.contracts.outcomes import Frame, FrameStatus
from imgpipeline.lake.days.derived import Built
from imgpipeline.objectstore import open_store
from imgpipeline.reports.figures import Headline, read_headline
from imgpipeline.reports.wording import duration, number, share
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_report
from imgpipeline_tests.ledger.samples import DAY, write_chain
from imgpipeline_tests.ledger.sessions import account, said, shot
from imgpipeline_tests.reports.conftest import AFTERWARDS, audit_all, build_tables, key_of
from imgpipeline_tests.reports.reading import ReadPage, assert_self_contained
from imgpipeline_tests.reports.samples import write_busy_day

DASH = "\N{EN DASH}"
STARTED, ENDED = NoticeKind.STARTED, NoticeKind.ENDED
ACCOUNTS = "Frames received by the sources, and their outcomes"
Read = Callable[[], ReadPage]


@dataclass(frozen=True)
class BusyDay:
    """A day with something of everything, and its report."""

    frames: list[Frame]
    """As plain Python finds them in the segments."""
    built: Built[Any]
    html: bytes
    page: ReadPage


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> BusyDay:
    folder: Path = tmp_path_factory.mktemp("busy")
    settings = Settings(_env_file=None, store_url=(folder / "store").as_uri())
    store = open_store(settings)
    frames = write_busy_day(store)
    build_tables(store, settings)
    audit_all(store)
    built = build_report(store, settings, DAY, now=AFTERWARDS, cache_dir=folder / "cache")
    html = store.get(key_of(built))
    return BusyDay(frames, built, html, ReadPage(html))


@pytest.mark.medium
def test_the_day_has_something_of_everything(busy):
    assert len(busy.frames) == 67
    assert {f.status for f in busy.frames} == set(FrameStatus)
    assert len({f.partition for f in busy.frames}) == 2


def observed_s(frames: Iterable[Frame]) -> float:
    """Return the gaps between the frames of each source, each up to a minute."""
    times: dict[str, list[datetime]] = defaultdict(list)
    for each in frames:
        times[each.source].append(each.timestamp)
    gaps = (later - sooner for several in times.values() for sooner, later in pairwise(sorted(several)))
    return sum(min(60.0, gap.total_seconds()) for gap in gaps)


@pytest.mark.medium
def test_the_numbers_at_the_top_are_those_of_the_ledger(busy):
    hours = Counter(f.timestamp.hour for f in busy.frames for _ in f.detections)
    hour, count = max(sorted(hours.items()), key=lambda pair: pair[1])
    assert busy.page.numbers == {
        "frames": number(len(busy.frames)),
        "detections": number(sum(len(f.detections) for f in busy.frames)),
        "sources": number(len({f.source for f in busy.frames})),
        "busiest hour": f"{hour:02d}{DASH}{hour + 1:02d}",
        "gated": "3",
        "observed": duration(observed_s(busy.frames)),
        "dead letters": "2",
    }
    assert f"{number(count)} detections" in busy.page.text


@pytest.mark.medium
def test_counts_by_label_and_hour_are_those_of_the_ledger(busy):
    counted = Counter((d.label, f.timestamp.hour) for f in busy.frames for d in f.detections)
    header, *rows = busy.page.section("Labels over the day")
    shown = {(row[0], int(hour)): int(cell) for row in rows for hour, cell in zip(header[1:], row[1:], strict=True)}
    assert {key: count for key, count in shown.items() if count} == counted
    header, *rows = busy.page.section("Detections by hour and label")
    for row in rows:
        of_hour = {label: int(cell) for label, cell in zip(header[1:-1], row[1:-1], strict=True)}
        assert of_hour == {label: counted[label, int(row[0][:2])] for label in of_hour}
        assert int(row[-1]) == sum(of_hour.values())
    assert len(rows) == len({hour for _, hour in counted})


def test_counts_by_source_and_label_are_those_of_the_ledger(busy):
    counted = Counter((f.source, d.label) for f in busy.frames for d in f.detections)
    header, *rows = busy.page.section("Labels by source")
    shown = {(row[0], label): int(cell) for row in rows for label, cell in zip(header[1:], row[1:], strict=True)}
    sums = Counter(f.source for f in busy.frames for _ in f.detections)
    assert {key: count for key, count in shown.items() if key[1] != "all" and count} == counted
    assert {row[0]: int(row[-1]) for row in rows} == sums
    assert len(sums) > 1


def test_the_table_of_labels_is_that_of_the_ledger(busy):
    _, *rows = busy.page.section("labels")
    found = [d for f in busy.frames for d in f.detections]
    assert {row[0] for row in rows} == {d.label for d in found}
    for row in rows:
        sure = [d.confidence for d in found if d.label == row[0]]
        times = [f.timestamp for f in busy.frames if any(d.label == row[0] for d in f.detections)]
        assert [row[1], *row[3:]] == [
            number(len(sure)),
            share(len(sure), len(found)),
            number(len(times)),
            f"{sum(sure) / len(sure):.2f} ({min(sure):.2f} {DASH} {max(sure):.2f})",
            f"{min(times):%H:%M:%S}",
            f"{max(times):%H:%M:%S}",
        ]


def test_frames_by_hour_are_those_of_the_ledger(busy):
    _, *rows = busy.page.section("Frames by hour")
    processed = Counter(f.timestamp.hour for f in busy.frames if f.status is FrameStatus.PROCESSED)
    assert {int(row[0][:2]): int(row[1]) for row in rows if row[1] != "0"} == processed
    assert {int(row[0][:2]): int(row[2]) for row in rows if row[2] != "0"} == {2: 3}
    assert sum(int(row[3]) for row in rows) == 2


def test_the_activity_of_sources_is_that_of_the_ledger(busy):
    rows = {row[0]: row for row in busy.page.section("sources")[1:]}
    for source in {f.source for f in busy.frames}:
        of_it = [f for f in busy.frames if f.source == source]
        times = sorted(f.timestamp for f in of_it)
        pauses = [later - sooner for sooner, later in pairwise(times)]
        assert rows[source][2:8] == [
            str(len(of_it)),
            str(sum(f.status is FrameStatus.GATED for f in of_it)),
            "2" if source == "cam-1" else "0",
            f"{times[0]:%H:%M:%S}",
            f"{times[-1]:%H:%M:%S}",
            str(len({time.hour for time in times})),
        ]
        minutes, seconds = divmod(round(max(pauses).total_seconds()), 60)
        assert rows[source][9] == " ".join(
            f"{value} {unit}"
            for value, unit in ((minutes // 60, "h"), (minutes % 60, "min"), (seconds if minutes < 60 else 0, "s"))
            if value
        )


def test_histograms_count_every_frame(busy):
    for title in ("Encoded image size", "Latency from frame to outcome", "Brightness (mean luma, 0 to 255)"):
        assert sum(int(row[1]) for row in busy.page.section(title)[1:]) == len(busy.frames), title
    assert busy.page.section("Latency from frame to outcome")[1][0] == f"2 s {DASH} 4 s"
    assert busy.page.section("Encoded image size")[1][0] == f"512 B {DASH} 1 kB"
    dimensions, frames, _ = busy.page.section("Dimensions in pixels")[1]
    assert (dimensions, frames) == ("640 \N{MULTIPLICATION SIGN} 480", str(len(busy.frames)))


def test_the_audit_of_the_day_is_shown(busy):
    rows = {row[0]: row[1:] for row in busy.page.section("audit")}
    assert rows["frames"] == ["67", "67", "equal"]
    assert rows["detections"][0] == str(sum(len(f.detections) for f in busy.frames))
    assert rows["dead letters"] == ["2", "2", "equal"]
    assert rows["duplicates"][1:] == ["0", "none"]
    assert rows["summary label_counts"] == ["same when rebuilt"]
    assert "Audit: ok" in busy.page.text


def test_a_program_finds_the_figures_in_the_page(busy):
    found = read_headline(busy.html)
    assert found == busy.built.manifest
    assert found is not None
    assert Headline.from_json(found.to_json()) == found
    assert found.frames == len(busy.frames)
    assert found.verdict == "ok"
    assert sum(one.total for one in found.top) == found.detections


def test_other_pages_have_no_figures():
    assert read_headline(b"<html></html>") is None
    assert read_headline(b'<meta name="imgpipeline-report" content="{}">') is None
    assert read_headline(b'<meta name="imgpipeline-report" content="{&quot;version&quot;: 2}">') is None


def test_a_page_is_self_contained(busy):
    assert_self_contained(busy.page)
    styles = busy.html.decode().split("<style>")[1].split("</style>")[0]
    assert "url(" not in styles
    assert "@import" not in styles
    targets = {attributes["href"] for tag, attributes in busy.page.tags if tag == "a"}
    idents = [attributes["id"] for _, attributes in busy.page.tags if "id" in attributes]
    assert {target[1:] for target in targets if target} <= set(idents)
    assert len(idents) == len(set(idents))


@pytest.mark.medium
def test_accounts_and_observed_time_are_shown(store, report, read):
    write_chain(
        store,
        [said(0, STARTED), shot(1), shot(2), account(3, 2, gated=5, dropped={"queue": 3, "fps": 1}, failed=1)],
        [said(4, ENDED), said(5, STARTED, session="two"), account(6, 0, session="two", minute=1)],
    )
    page = read()
    assert page.section(ACCOUNTS)[1] == ["cam-1", "2 (1 open)", "12", "2", "2", "5", "1", "fps 1, queue 3"]
    assert page.numbers["observed"] == "2 min"
    assert "33.3% of 12 dropped" in page.text
    headline = report().manifest
    assert (headline.received, headline.dropped, headline.notices, headline.observed_s) == (12, 4, 5, 120.0)


@pytest.mark.medium
def test_a_source_without_frames_still_has_observed_time(store, read):
    write_chain(store, [said(0, STARTED), account(1, 0, observed_s=60)])
    page = read()
    assert (page.numbers["frames"], page.numbers["observed"]) == ("0", "1 min")


@pytest.mark.medium
def test_a_source_without_notices_has_no_accounts(store, report, read):
    write_chain(store, [shot(0, session=None)])
    assert not read().section(ACCOUNTS)
    assert (report().manifest.received, report().manifest.notices) == (None, 0)
