"""One session for all requests: it follows the ledger, survives a store that is away, and is not pulled away."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from imgpipeline.errors import TransientError
from imgpipeline.objectstore import open_store
from imgpipeline.web.viewer.site import SharedLake
from imgpipeline_tests.lake.query.site import DAY
from imgpipeline_tests.ledger.samples import append, frames, write_chain
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.web.viewer.viewing import viewing


@pytest.mark.medium
def test_every_page_of_an_empty_store_says_how_to_ingest_frames(folder):
    lists = ("events", "objects", "dead-letters", "accounts")
    with viewing(folder) as viewer:
        for path in ("/", "/review", "/review?from=2026-01-09", "/heatmap", "/search?q=car", "/calendar", "/coverage",
                     "/places", "/comparisons", "/feedback", *(f"/{name}" for name in lists)):  # fmt: skip
            page = viewer.http.get(path)
            assert (page.status_code, "imgpipeline ingest folder" in page.text) == (200, True), path
        assert "imgpipeline sources run" in viewer.get("/live").text
        assert viewer.json("/api/v1/live")["sources"] == []
        for path in ("frames", "frames?from=2026-01-09", "coverage", *lists):
            assert viewer.http.get(f"/api/v1/{path}").status_code == 404, path
        assert viewer.get("/review", day="2026-01-09").status_code == 404
        write_chain(open_store(folder), frames(0, 3))
        wait_until(lambda: viewer.get("/api/v1/frames").status_code == 200, limit_s=60, what="the first frames")
        assert "No frames yet" not in viewer.get("/review").text


@pytest.mark.medium
def test_a_request_keeps_its_session_while_it_is_replaced(folder):
    store = open_store(folder)
    chain = write_chain(store, frames(0, 3))
    lake = SharedLake(store, folder)
    lake.start(wait_s=60)
    try:
        with lake.reading() as reading:
            append(chain, frames(3, 5))
            revision = lake.state.revision
            wait_until(lambda: lake.state.revision > revision, limit_s=60, what="another session")
            assert reading.query("SELECT count(*) FROM frames").rows == [(3,)]
            with lake.reading() as newer:
                assert newer.query("SELECT count(*) FROM frames").rows == [(5,)]
    finally:
        lake.close()


def test_many_threads_read_at_once(folder):
    store = open_store(folder)
    write_chain(store, frames(0, 50))
    lake = SharedLake(store, folder)
    lake.start(wait_s=60)
    together = threading.Barrier(8)

    def count(_: int) -> object:
        with lake.reading() as reading:
            together.wait(30)
            return reading.query("SELECT count(*), min(day), (SELECT count(*) FROM tracks) FROM frames").rows

    try:
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(count, range(8))) == [[(50, DAY, 0)]] * 8
    finally:
        lake.close()


@pytest.mark.medium
def test_a_restarted_server_has_a_greater_revision_so_that_open_pages_notice(folder):
    store, revisions = open_store(folder), []
    write_chain(store, frames(0, 1))
    for _ in range(2):
        lake = SharedLake(store, folder)
        lake.start(wait_s=60)
        revisions.append(lake.state.revision)
        lake.close()
    assert revisions[0] < revisions[1]


def test_without_a_session_the_error_gives_the_reason(folder):
    with (
        pytest.raises(TransientError, match="being opened for the first time"),
        SharedLake(open_store(folder), folder).reading(),
    ):
        pass
