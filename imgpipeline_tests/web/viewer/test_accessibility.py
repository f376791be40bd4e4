"""Every page, found by following links: its names stay text, and a screen reader can use it in both themes."""

import re
from collections import deque
from html import unescape
from urllib.parse import quote, urljoin, urlsplit

import pytest

from imgpipeline_tests.lake.query.site import DAY
from imgpipeline_tests.web.viewer.axe import serious_problems
from imgpipeline_tests.web.viewer.conftest import HOSTILE_LABEL, HOSTILE_SOURCE
from imgpipeline_tests.web.viewer.viewing import Viewer

_LINK = re.compile(r'<a [^>]*href="([^"]*)"')


def pages_of(viewer: Viewer) -> dict[str, str]:
    """Return an address of each kind of page that links lead to; `/frames/DAY/ID` is one kind, whatever the frame."""
    found: dict[str, str] = {}
    starts = [f"/?day={DAY}", f"/review?day={DAY}&label=car&hour=7", f"/dead-letters?day={DAY}"]
    waiting, known = deque(starts), {""}
    while waiting:
        address = waiting.popleft()
        path = urlsplit(address).path
        kind = f"{path.split('/')[1]}/{path.count('/')}"
        if kind in found:
            continue
        answer = viewer.http.get(address)
        if answer.status_code != 200 or not answer.headers["content-type"].startswith("text/html"):
            continue
        found[kind] = address
        for link in _LINK.findall(answer.text):
            target = urljoin(address, unescape(link))
            if target.startswith("/") and not target.startswith(("//", "/docs")) and target not in known:
                known.add(target)
                waiting.append(target)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_has_a_serious_problem(browser, viewed, theme):
    pages = pages_of(viewed.viewer)
    assert {
        "/1",
        "live/1",
        "review/1",
        "calendar/1",
        "frames/3",
        "explain/1",
        "events/1",
        "alerts/1",
        "alerts/2",
        "comparisons/1",
        "dead-letters/4",
    } <= set(pages)
    with browser.new_context(base_url=str(viewed.viewer.http.base_url), color_scheme=theme) as context:
        page = context.new_page()
        problems = [one for address in pages.values() for one in serious_problems(page, address)]
    assert problems == []


@pytest.mark.slow
@pytest.mark.medium
def test_markup_in_names_stays_text_on_every_page(viewed):
    own = (f"/frames/{DAY}/{viewed.hostile.frame_id}", f"/explain?day={DAY}&label={quote(HOSTILE_LABEL)}")
    shown = {address: viewed.viewer.http.get(address).text for address in (*pages_of(viewed.viewer).values(), *own)}
    for address, page in shown.items():
        assert not [name for name in (HOSTILE_LABEL, HOSTILE_SOURCE, "<script>document") if name in page], address
    assert all("document.title=1" in shown[address] for address in own)
