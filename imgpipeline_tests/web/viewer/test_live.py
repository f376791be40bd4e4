"""The live page: the newest frame of each source with all of its boxes and its age."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from imgpipeline.contracts.outcomes import Frame
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import dead_letter, write_chain
from imgpipeline_tests.web.viewer.conftest import HOSTILE_SOURCE
from imgpipeline_tests.web.viewer.viewing import Viewer, viewing

SOURCES = ("gate", "yard", HOSTILE_SOURCE)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Viewer, list[Frame]]]:
    """A viewer over twelve frames of three sources; the latest is ten minutes old."""
    settings = Settings(_env_file=None, store_url=(tmp_path_factory.mktemp("live") / "store").as_uri())  # type: ignore[call-arg]  # pydantic-settings' own argument
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=26)
    steps = [timedelta(hours=2 * n) if n < 11 else timedelta(hours=25, minutes=50) for n in range(12)]
    found = [
        seen(n, ["car"] * (n % 3) + ["dog"], source=SOURCES[n % 3], timestamp=start + step)
        for n, step in enumerate(steps)
    ]
    write_chain(open_store(settings), [*found, dead_letter(12, start.date())])
    with viewing(settings) as viewer:
        yield viewer, found


def test_each_source_has_its_newest_frame_with_all_boxes(shown: tuple[Viewer, list[Frame]]):
    viewer, frames = shown
    newest = {one.source: one for one in sorted(frames, key=lambda one: one.timestamp)}
    found = {one["source"]: one for one in viewer.json("/api/v1/live")["sources"] if one["frame"]}
    assert {source: one["frame"]["frame_id"] for source, one in found.items()} == {
        source: one.frame_id for source, one in newest.items()
    }
    for source, one in found.items():
        assert [box["label"] for box in one["detections"]] == [box.label for box in newest[source].detections]


def test_the_page_says_how_old_each_image_is_and_leads_to_its_frame(shown: tuple[Viewer, list[Frame]]):
    viewer, frames = shown
    page = viewer.get("/live").text
    for one in frames[-3:]:
        assert f'href="/frames/{one.day}/{one.frame_id}?source=' in page
        assert f'src="/api/v1/frames/{one.day}/{one.frame_id}/thumbnail"' in page
    assert "10 min" in page
    assert page.count("<rect x=") == sum(len(one.detections) for one in frames[-3:])
    assert HOSTILE_SOURCE not in page
    assert viewer.get("/live", day="2026-01-09").status_code == 400


@pytest.mark.medium
def test_a_store_without_frames_says_how_to_start_a_source(folder: Settings):
    with viewing(folder) as viewer:
        assert "imgpipeline sources run" in viewer.get("/live").text
        assert viewer.json("/api/v1/live")["sources"] == []
