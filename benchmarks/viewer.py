"""Measures the pages and the API of `imgpipeline serve`, each beside the same question to a bare DuckDB."""

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, sync_playwright

from benchmarks.children import environment_of
from benchmarks.effort import Effort
from benchmarks.place import Place, say
from benchmarks.processes import peak_rss_mib
from benchmarks.viewer_questions import open_bare, questions_about
from benchmarks.viewer_store import day_of, make_viewed_store
from imgpipeline.settings import Settings
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.programs import MissingProgramError, chromium
from imgpipeline_tests.servers.waiting import wait_until

_CLIENTS = 10
_ROUNDS = 3
_OK = 200
_FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"


def measure_viewer(place: Place, effort: Effort) -> dict[str, Any]:
    """Makes a store, serves it, and asks.

    Args:
        place: Its folder gets the store.
        effort: How many days and frames, and how often each path is asked.

    Returns:
        Seconds of each path, throughput, memory of the server, and times of a browser.
    """
    return measure_served(place.folder / "viewer", effort.viewer_days, effort.viewer_frames, effort.viewer_rounds)


def measure_served(folder: Path, days: int, frames: int, rounds: int) -> dict[str, Any]:
    """Returns what `measure_viewer` does, for a store of this size.

    Raises:
        TimeoutError: The server does not start.
        RuntimeError: A path was not answered.
    """
    store = folder / "store"
    settings = make_viewed_store(store, days, frames)
    day = day_of(days - 1)
    with _served(settings, folder) as (process, http):
        frame_id = http.get(f"/api/v1/frames?day={day}&limit=1").json()["frames"][0]["frame_id"]
        questions = questions_about(day, frame_id)
        paths = [_measure_path(http, store, path, queries, rounds) for path, queries in questions.items()]
        clients = _measure_clients(http, list(questions), rounds)
        browser = _in_browser(str(http.base_url), str(day))
        rss_mib = peak_rss_mib(process.pid)
    return {"days": days, "frames": frames, "paths": paths, "clients": clients, "rss_mib": rss_mib, "browser": browser}


@contextlib.contextmanager
def _served(settings: Settings, folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", httpx.Client]]:
    port = free_port()
    line = [sys.executable, "-m", "imgpipeline.cli", "serve", "--port", str(port)]
    env = {**environment_of(settings), "XDG_CACHE_HOME": str(folder / "cache")}
    with (
        subprocess.Popen(line, env=env, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process,  # noqa: S603 - this very package
        httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=120) as http,
    ):
        try:
            wait_until(lambda: _answers(http), limit_s=120, what="the viewer")
            yield process, http
        finally:
            process.kill()


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/api/v1/days").status_code == _OK
    except httpx.TransportError:
        return False


def _measure_path(http: httpx.Client, store: Path, path: str, queries: tuple[str, ...], rounds: int) -> dict[str, Any]:
    """Asks the server and a bare DuckDB in turns."""
    ours, bare = [], []
    with contextlib.closing(open_bare(str(store))) as connection:
        for _ in range(rounds):
            ours.append(_time(partial(_ask, http, path)))
            bare.append(_time(lambda: [connection.execute(query).fetchall() for query in queries]))
    warm = ours[1:] or ours
    say(f"viewer: {path}: {statistics.median(warm):.3f} s, bare {statistics.median(bare):.3f} s")
    return {
        "path": path,
        "first_s": ours[0],
        "p50_s": statistics.median(warm),
        "p95_s": sorted(warm)[int(0.95 * (len(warm) - 1) + 0.5)],
        "bare_first_s": bare[0],
        "bare_s": statistics.median(bare),
    }


def _measure_clients(http: httpx.Client, paths: list[str], rounds: int) -> Mapping[str, float]:
    wanted = paths * min(rounds, _ROUNDS)
    serial_s = _time(lambda: list(map(partial(_ask, http), wanted)))
    with ThreadPoolExecutor(_CLIENTS) as pool:
        together_s = _time(lambda: list(pool.map(partial(_ask, http), wanted)))
    return {"serial_per_s": len(wanted) / serial_s, "together_per_s": len(wanted) / together_s}


def _in_browser(address: str, day: str) -> Mapping[str, float] | None:
    """Returns seconds to the first paint of the review page and of one with another filter; None without a browser."""
    try:
        program = chromium()
    except MissingProgramError:
        return None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(base_url=address, bypass_csp=True)  # `wait_for_function` evaluates a text
        painted_s = _painted_s(page, f"/review?day={day}")
        filtered_s = [_painted_s(page, f"/review?day={day}&label={label}") for label in ("car", "dog", "bus")]
        browser.close()
    return {"first_paint_s": painted_s, "filter_change_s": statistics.median(filtered_s)}


def _painted_s(page: Page, path: str) -> float:
    page.goto(path, wait_until="domcontentloaded")
    page.wait_for_function(f"{_FIRST_PAINT} > 0")
    return float(page.evaluate(_FIRST_PAINT)) / 1000


def _ask(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    if answer.status_code != _OK:
        raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:200]}")


def _time(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s
