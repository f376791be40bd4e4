"""A viewer over a filled store in a real S3 bucket, with sources and labels that try to be markup."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.outcomes import Frame, make_frame_id
from imgpipeline.events.alerts.chain import AlertChain
from imgpipeline.events.values import Event
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.lake.query.site import DAY, Site, fill
from imgpipeline_tests.ledger.samples import NOON, append, frame, writer
from imgpipeline_tests.objectstore.stores import folder_settings, s3_settings
from imgpipeline_tests.servers.programs import chromium
from imgpipeline_tests.servers.s3_server import S3Server
from imgpipeline_tests.web.viewer.filmed import FilmedSite, filmed_site
from imgpipeline_tests.web.viewer.viewing import Viewer, viewing

HOSTILE_SOURCE = '"><img src=x onerror="document.title=1">'
HOSTILE_LABEL = "</script><script>document.title=1</script>' OR 1=1 --"


@dataclass(frozen=True, slots=True)
class ViewedStore:
    """A viewer and the content of its store."""

    viewer: Viewer
    site: Site
    """The content of the store, apart from `hostile`."""
    hostile: Frame
    """A frame whose names are markup and SQL."""
    settings: Settings

    @property
    def frames(self) -> list[Frame]:
        """All frames of `DAY`, the latest first."""
        found = [one for one in (*self.site.frames, self.hostile) if one.day == DAY]
        return sorted(found, key=lambda one: one.timestamp, reverse=True)


@pytest.fixture(scope="session")
def viewed(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ViewedStore]:
    """For reading only."""
    settings = s3_settings(s3.create_bucket("viewer"))
    store = open_store(settings)
    site = fill(store, {})
    hostile = hostile_frame(14)
    append(writer(store), [hostile])
    for number in (1, 2):
        AlertChain(store).append(image_change(site, number), difference_image="event_images/d.jpg", now=NOON)
    store.put("event_images/d.jpg", b"\xff\xd8\xff the difference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("viewer-cache")))
        with viewing(settings) as viewer:
            yield ViewedStore(viewer, site, hostile, settings)


@pytest.fixture(scope="package")  # its event loop must not run in the tests of other packages
def browser() -> Iterator[Browser]:
    program = chromium()
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])  # CI is root


@pytest.fixture
def folder(tmp_path: Path) -> Settings:
    """Settings of an empty store in a folder, with a file of keys that does not exist yet."""
    return folder_settings(tmp_path).model_copy(update={"api_keys_file": tmp_path / "keys.json"})


@pytest.fixture(scope="session")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilmedSite]:
    """For reading only."""
    with filmed_site(tmp_path_factory.mktemp("filmed")) as made:
        yield made


def raise_alert(store: ObjectStore) -> None:
    """Put an alert of a crowd at the gate into a store."""
    event = Event("crowd", "count", "gate", NOON, NOON, NOON, None, None, None, 7.0, "7 people", (), ())
    AlertChain(store).append(event, difference_image=None, now=NOON)


def image_change(site: Site, number: int) -> Event:
    """Return an image change between a frame and the next one of its source."""
    before, after = site.frames[number], site.frames[number + 2]
    return Event(
        "changed", "image_change", after.source, after.timestamp, before.timestamp, after.timestamp, None, None, None,
        7.5, "the <b>image</b> differs", (before.frame_id, after.frame_id),
        (before.source_image_path, after.source_image_path),
    )  # fmt: skip


def hostile_frame(offset: int) -> Frame:
    """Return a frame whose names try to be markup, SQL and a way out of the store."""
    time = datetime(DAY.year, DAY.month, DAY.day, 22, tzinfo=UTC)
    return replace(
        frame(offset, DAY, HOSTILE_SOURCE),
        frame_id=make_frame_id(HOSTILE_SOURCE, time, offset),
        timestamp=time,
        source_image_path="../../../etc/passwd",
        attributes={"note": "<script>document.title=1</script>"},
        detections=(Detection(HOSTILE_LABEL, 7, 0.8, (1.0, 2.0, 3.0, 4.0)),),
    )
