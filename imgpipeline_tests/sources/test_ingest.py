"""Several sources are published at once: each ends on its own, with its accounting."""

import threading
from collections.abc import Iterator

import pytest

from imgpipeline.errors import PermanentError
from imgpipeline.sources.board import Board, SourceState
from imgpipeline.sources.ingest import IngestSessions, ingest_all
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.protocol import Captured
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.published import accounts_in, frames_in, read_published
from imgpipeline_tests.sources.test_session import Listed, frame

OPTIONS = PublishOptions(commit_s=0.0, drain_s=2.0)


class Failing(Listed):
    """Yields the given items, then fails."""

    def __init__(self, items: list[Captured], name: str, error: Exception) -> None:
        super().__init__(items, name)
        self.error = error

    def capture(self, stop: threading.Event) -> Iterator[Captured]:
        yield from super().capture(stop)
        raise self.error


def test_a_source_that_fails_keeps_its_accounting_and_does_not_affect_the_others(settings, tmp_path):
    settings = settings.model_copy(update={"store_url": tmp_path.as_uri()})
    board, error = Board(), PermanentError("The camera is broken.")
    sources = [Failing([frame(n) for n in range(5)], "broken", error), Listed([frame(n) for n in range(7)], "well")]
    broken, well = ingest_all(settings, [(source, OPTIONS) for source in sources], threading.Event(), board)
    assert broken.error is error
    assert broken.totals is not None
    assert (broken.totals.received, broken.totals.announced, broken.totals.in_flight) == (5, 5, 0)
    assert (well.error, well.totals and well.totals.announced) == (None, 7)
    found = read_published(settings)
    assert sorted(message.source for message in frames_in(found)) == ["broken"] * 5 + ["well"] * 7
    assert {notice.source: notice.account.received for notice in accounts_in(found) if notice.account} == {
        "broken": 5,
        "well": 7,
    }
    assert [status.state for status in board.statuses()] == [SourceState.ENDED] * 2


def test_a_defect_of_one_source_ends_only_that_source(settings, tmp_path):
    settings = settings.model_copy(update={"store_url": tmp_path.as_uri()})
    sources = [Failing([frame(0)], "defect", ZeroDivisionError("oops")), Listed([frame(0)], "well")]
    defect, well = ingest_all(settings, [(source, OPTIONS) for source in sources], threading.Event(), Board())
    assert "ZeroDivisionError: oops" in str(defect.error)
    assert [one.totals and one.totals.announced for one in (defect, well)] == [1, 1]


def test_a_missing_topic_is_refused_before_anything_is_captured(settings):
    absent = settings.model_copy(update={"kafka_topics": ("absent",)})
    [one] = ingest_all(absent, [(Listed([frame(0)]), OPTIONS)], threading.Event(), Board())
    assert one.totals is None
    assert "imgpipeline topics create" in str(one.error)


class Refusing:
    """A store that refuses every image."""

    def create(self, key: str, data: bytes) -> bool:
        raise PermanentError(f"{key} ({len(data)} bytes) is refused.")


def test_a_failed_session_is_closed_and_stays_in_the_accounting(settings):
    publishers = IngestSessions(settings, options=OPTIONS, store=Refusing())
    publishers.offer("gate", frame(0))
    wait_until(lambda: _has_failed(publishers), limit_s=60, what="the failure of the session")
    with pytest.raises(PermanentError, match="is refused"):
        publishers.offer("gate", frame(1))
    assert [(source, totals.failed) for source, totals in publishers.totals()] == [("gate", 1)]
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("store gate")]


def _has_failed(publishers: IngestSessions) -> bool:
    try:
        publishers.check()
    except PermanentError:
        return True
    return False
