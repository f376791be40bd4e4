"""The unique objects of a day: as many as the overview counts, each with its frames."""

import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape

import pyarrow as pa
import pytest

from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_tracks
from imgpipeline_tests.ledger.samples import DAY, NOON, write_chain
from imgpipeline_tests.tracking.films import Car, film
from imgpipeline_tests.web.viewer.filmed import AT, MINUTE
from imgpipeline_tests.web.viewer.viewing import Viewer, viewing

BORDER = AT + 10 * MINUTE
"""Of two slices, which are followed on their own."""
START, END = BORDER - 2 * MINUTE, BORDER + 2 * MINUTE


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """A car that is hidden for a while and so has two tracks, a person, and a dog that is seen for a moment."""
    url = (tmp_path_factory.mktemp("objects") / "store").as_uri()
    settings = Settings(_env_file=None, store_url=url, unique_min_s=10)  # type: ignore[call-arg]  # pydantic-settings' own argument
    hidden = (BORDER - timedelta(seconds=2), BORDER + timedelta(seconds=2))
    cars = [Car(START, END, hidden=hidden), Car(START, START + MINUTE, "person", y=300),
            Car(START, START + timedelta(seconds=9), "dog", y=400)]  # fmt: skip
    store = open_store(settings)
    write_chain(store, film(START, END, cars, rate=2))
    rebuild_day(store, DAY, now=NOON)
    build_tracks(store, DAY, settings=settings, now=NOON)
    with viewing(settings) as made:
        yield made


@pytest.mark.medium
def test_an_object_is_listed_once_however_many_tracks_it_has(viewer: Viewer):
    found = viewer.json("/api/v1/objects", day=DAY)["objects"]
    assert [(one["label"], one["stay_s"]) for one in found] == [("car", 239.5), ("person", 59.5)]
    car, person = found
    assert (person["tracks"], person["points"], len(person["object_ids"])) == (1, 120, 1)
    assert car["tracks"] == len(car["object_ids"]) == 2
    assert car["points"] == 480 - 8


@pytest.mark.medium
def test_the_overview_has_the_same_count_and_links_here(viewer: Viewer):
    page = viewer.get("/", day=DAY).text
    numbers = re.findall(r'<a [^>]*href="(/objects[^"]*)">(?:<b>)?([\d,]+)', page)
    assert len(numbers) == 3
    for address, number in numbers:
        assert f"<b>{number}</b> object" in viewer.get(unescape(address)).text


@pytest.mark.medium
def test_an_object_leads_to_all_of_its_frames(viewer: Viewer):
    for one in viewer.json("/api/v1/objects", day=DAY)["objects"]:
        frames = [viewer.json("/api/v1/frames", day=DAY, object=name)["detections"] for name in one["object_ids"]]
        assert sum(frames) == one["points"]
        assert one["best_frame_id"] in viewer.get("/objects", day=DAY).text


@pytest.mark.medium
def test_objects_are_filtered_paged_and_also_a_table(viewer: Viewer):
    assert viewer.json("/api/v1/objects", day=DAY, label="person")["matching"] == 1
    assert viewer.json("/api/v1/objects", day=DAY, source="nowhere")["objects"] == []
    first = viewer.json("/api/v1/objects", day=DAY, limit=1)
    second = viewer.json("/api/v1/objects", day=DAY, limit=1, after=first["next"])
    assert [one["label"] for one in (*first["objects"], *second["objects"])] == ["car", "person"]
    table = pa.ipc.open_stream(viewer.get("/api/v1/objects", day=DAY, format="arrow").content).read_all()
    assert table.column("points").to_pylist() == [472, 120]
    assert "No object matches." in viewer.get("/objects", day=DAY, label="zebra").text
