"""Pages that somebody looks at while the store, the server or the day changes under them, in a real browser."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.cli.command import environment
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import DAY, NOON, append, write_chain
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.web.viewer.viewing import viewing

pytestmark = [pytest.mark.slow, pytest.mark.fault(60)]
PATIENCE_MS = 90_000
NEXT_DAY = DAY + timedelta(days=1)


@contextmanager
def opened(browser: Browser, address: str) -> Iterator[Page]:
    """Open a page of a viewer, which waits long for what is expected."""
    with browser.new_context(base_url=address) as context:
        page = context.new_page()
        page.on("pageerror", lambda error: pytest.fail(str(error)))
        yield page


@contextmanager
def command(settings: Settings, port: int, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `imgpipeline serve` as users do, until it answers; it does not outlive the test."""
    line = [sys.executable, "-m", "imgpipeline.cli", "serve", "--port", str(port)]
    env = environment({"IMGPIPELINE_STORE_URL": settings.store_url})
    with subprocess.Popen(line, env=env, cwd=folder) as process:
        try:
            wait_until(lambda: _answers(port), limit_s=90, what="the viewer")
            yield process
        finally:
            process.kill()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://{LOOPBACK}:{port}/api/v1/status", timeout=30).status_code == 200
    except httpx.TransportError:
        return False


def build(store: ObjectStore) -> None:
    rebuild_day(store, DAY, now=NOON)
    build_summary(store, "label_counts", DAY, settings=Settings(_env_file=None), now=NOON)


def test_fault_60_a_page_shows_one_moment_of_a_day_that_is_rebuilt(folder):
    """Each page names a number and lists its frames; the two agree in every answer while the day grows."""
    store, done = open_store(folder), threading.Event()
    chain = write_chain(store, [seen(0)])
    build(store)

    def grow() -> None:
        try:
            for number in range(1, 13):
                append(chain, [seen(number, ["car"] * (number % 3))])
                build(store)
        finally:
            done.set()

    with viewing(folder) as viewer, ThreadPoolExecutor(1) as pool:
        grown, answers = pool.submit(grow), 0
        while not done.is_set() or answers < 5:
            found = viewer.json("/api/v1/frames", day=DAY, label="car", limit=100)
            boxes = sum(box["label"] == "car" for one in found["frames"] for box in one["boxes"])
            assert (len(found["frames"]), boxes) == (found["matching"], found["detections"])
            answers += 1
        grown.result()
        wait_until(
            lambda: viewer.json("/api/v1/frames", day=DAY, label="car")["detections"] == 13,
            limit_s=90,
            what="the whole day",
        )


def test_fault_60_a_day_rebuilt_under_a_reader_is_offered_and_nothing_moves_by_itself(browser, folder):
    store = open_store(folder)
    chain = write_chain(store, [seen(0), seen(1)])
    build(store)
    with viewing(folder) as viewer, opened(browser, str(viewer.http.base_url)) as page:
        page.goto(f"/review?day={DAY}")
        expect(page.locator(".card")).to_have_count(2)
        append(chain, [seen(2)])
        build(store)
        expect(page.locator("#news")).to_be_visible(timeout=PATIENCE_MS)
        expect(page.locator(".card")).to_have_count(2)
        page.locator("#news a, #news button").first.click()
        expect(page.locator(".card")).to_have_count(3, timeout=PATIENCE_MS)


def test_fault_60_an_open_page_explains_a_store_that_is_away_and_recovers(browser, s3, bucket, toxiproxy):
    chain = write_chain(open_store(s3_settings(bucket)), [seen(0)])
    proxy = toxiproxy.create_proxy(s3.port)
    through = s3_settings(bucket, s3_endpoint=f"http://{proxy.address}", store_patience_s=0.5)
    proxy.disconnect()
    with viewing(through) as viewer, opened(browser, str(viewer.http.base_url)) as page:
        answer = viewer.get("/")
        assert (answer.status_code, answer.headers["refresh"]) == (503, "2")
        assert "tries again automatically" in answer.text
        proxy.reconnect()
        wait_until(lambda: viewer.status()["snapshot"], limit_s=90, what="the first session")
        proxy.disconnect()
        assert "unknown: the store does not answer" in viewer.get("/").text
        proxy.reconnect()
        page.goto("/")
        expect(page.get_by_role("link", name="1 frame")).to_be_visible()
        proxy.disconnect()
        expect(page.locator("#away")).to_contain_text("IMGPIPELINE_S3_ENDPOINT", timeout=PATIENCE_MS)
        expect(page.get_by_role("link", name="1 frame")).to_be_visible()
        page.goto("/review")
        expect(page.locator("#away")).to_be_visible()
        expect(page.locator(".card")).to_have_count(1)
        page.locator(".card").click()
        expect(page.locator("#away")).to_be_visible()
        page.goto("/")
        proxy.reconnect()
        append(chain, [seen(1)])
        expect(page.get_by_role("link", name="2 frames")).to_be_visible(timeout=PATIENCE_MS)
        expect(page.locator("#away")).to_be_hidden(timeout=PATIENCE_MS)


def test_fault_60_an_open_page_survives_a_viewer_that_is_killed(browser, folder, tmp_path):
    chain, port = write_chain(open_store(folder), [seen(0)]), free_port()
    with opened(browser, f"http://{LOOPBACK}:{port}") as page:
        with command(folder, port, tmp_path) as process:
            page.goto("/")
            expect(page.get_by_role("link", name="1 frame")).to_be_visible()
            process.kill()
        expect(page.locator("#away")).to_contain_text("Is imgpipeline serve running?", timeout=PATIENCE_MS)
        append(chain, [seen(1)])
        with command(folder, port, tmp_path):
            expect(page.get_by_role("link", name="2 frames")).to_be_visible(timeout=PATIENCE_MS)
            expect(page.locator("#away")).to_be_hidden(timeout=PATIENCE_MS)


def test_fault_60_midnight_passes_while_pages_are_open(browser, folder):
    """The overview without a day goes on to the new day; a page of a day stays with it, as its address says."""
    midnight = seen(0).timestamp.replace(hour=0) + timedelta(days=1)
    store = open_store(folder)
    chain = write_chain(store, [seen(0, timestamp=midnight - timedelta(seconds=1))])
    with (
        viewing(folder) as viewer,
        opened(browser, str(viewer.http.base_url)) as today,
        opened(browser, str(viewer.http.base_url)) as that_day,
    ):
        today.goto("/")
        that_day.goto(f"/?day={DAY}")
        for page in (today, that_day):
            expect(page.get_by_role("link", name="1 frame")).to_be_visible()
        append(chain, [seen(n, day=NEXT_DAY, timestamp=midnight + timedelta(seconds=n)) for n in (1, 2)])
        expect(today.get_by_role("link", name="2 frames")).to_be_visible(timeout=PATIENCE_MS)
        expect(today.locator("h1")).to_contain_text(f"{NEXT_DAY.day}")
        expect(that_day.get_by_role("link", name="1 frame")).to_be_visible()
        expect(that_day.locator("h1")).to_contain_text(f"{DAY.day}")
