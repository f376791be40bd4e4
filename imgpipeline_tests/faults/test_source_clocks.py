"""Fault 56, from the cameras to the ledger: a clock that is off is said, and a time that cannot be right is refused."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imgpipeline import Lake
from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.notices import Notice
from imgpipeline.errors import DeadLetterCode
from imgpipeline.settings import Settings
from imgpipeline.sources.board import Board
from imgpipeline.sources.ingest import ingest_all
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.rtsp import RtspSource
from imgpipeline_tests.detect.conftest import lane as lane  # noqa: PLC0414 - a fixture
from imgpipeline_tests.servers.rtsp_server import RtspServer, make_camera
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.published import read_published

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.fault(56)]
DAY_S, HALF_AN_HOUR_S = 86_400.0, 1_800.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RtspServer]:
    """A camera whose clock is a day ahead, and one whose clock is half an hour behind."""
    ahead = make_camera(tmp_path, "ahead", fps=5.0, clock_shift_s=DAY_S)
    behind = make_camera(tmp_path, "behind", fps=5.0, clock_shift_s=-HALF_AN_HOUR_S)
    made = RtspServer([ahead, behind])
    with made:
        yield made


@contextmanager
def published(settings: Settings, server: RtspServer, *names: str) -> Iterator[None]:
    """Publish these cameras until the context ends."""
    stop, cameras = threading.Event(), [(RtspSource(name, server.url(name)), PublishOptions()) for name in names]
    run = threading.Thread(target=ingest_all, args=(settings, cameras, stop, Board()))
    run.start()
    try:
        yield
    finally:
        stop.set()
        run.join(90)
    assert not run.is_alive()


def said(settings: Settings, source: str) -> list[str]:
    """Return the reasons of a source's notices."""
    found = (record for record in read_published(settings) if isinstance(record, Notice) and record.source == source)
    return [notice.reason for notice in found if notice.reason]


def test_fault_56_times_outside_the_window_are_dead_letters_and_others_say_how_far_off_they_are(lane, server):
    def is_said(source: str, text: str) -> bool:
        return any(text in reason for reason in said(lane.settings, source))

    with published(lane.settings, server, "ahead", "behind"):
        for source, text in (("ahead", "s ahead of this machine's"), ("behind", "s behind this machine's")):
            wait_until(lambda: is_said(source, text), limit_s=90, what=f"{source}: {text}", interval_s=0.5)  # noqa: B023 - at once
        server.shift_clock("ahead", shifted=False)
        wait_until(lambda: is_said("ahead", "clock is right again"), limit_s=90, what="the jump", interval_s=0.5)
    lane.follow()

    now = datetime.now(UTC)
    letters = lane.dead_letters()
    assert {letter.code for letter in letters} == {DeadLetterCode.TIMESTAMP_OUT_OF_RANGE}
    assert {letter.source for letter in letters} == {"ahead"}
    frames = {source: [frame for frame in lane.frames() if frame.source == source] for source in ("ahead", "behind")}
    assert all(abs(frame.timestamp - now) < timedelta(minutes=10) for frame in frames["ahead"])
    assert frames["ahead"]
    off = [frame for frame in frames["behind"] if frame.clock_source is ClockSource.RTCP]
    assert off
    for frame in off:
        assert frame.attributes["clock_offset_s"] == pytest.approx(-HALF_AN_HOUR_S, abs=60)
        assert (now - frame.timestamp).total_seconds() == pytest.approx(HALF_AN_HOUR_S, abs=300)

    lake = Lake.open(lane.settings)
    told = lake.sql("SELECT source, reason FROM notices WHERE reason LIKE '%clock%'")
    assert set(told.source) == {"ahead", "behind"}
    books = lake.books()
    books = books[books.received.notna()]
    assert list(books.difference) == [0] * len(books)
    assert books.announced.sum() == books.in_ledger.sum() == len(lane.frames()) + len(letters)
