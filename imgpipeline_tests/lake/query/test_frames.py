"""The latest day of a source is found backwards from the end, without reading all history."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from imgpipeline.contracts.outcomes import FrameStatus
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.query.frames import latest_day
from imgpipeline.lake.query.wanted_frames import WantedFrames
from imgpipeline.lake.schema.tables import SOURCE_ACTIVITY
from imgpipeline.ledger.days import known_days
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import DAY, NOON, append, dead_letter, write_chain
from imgpipeline_tests.objectstore.stores import SHARED_KINDS, folder_settings, s3_settings
from imgpipeline_tests.servers.s3_server import S3Server

DAYS = [DAY + timedelta(days=n) for n in range(10)]
LOST = DAYS[3]


@pytest.fixture(scope="module", params=SHARED_KINDS)
def ten_days(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    """A filled store in a folder, and one in a real S3 bucket; both for reading only."""
    if request.param == "folder":
        made = folder_settings(tmp_path_factory.mktemp("ten-days"))
    else:
        s3: S3Server = request.getfixturevalue("s3")
        made = s3_settings(s3.create_bucket("ten-days"))
    store = open_store(made)
    fill(store)
    return store


def fill(store: ObjectStore) -> None:
    """Store ten days of the source `gate`; `yard` was last seen on the fourth, and later sent dead letters only."""
    made = write_chain(store, [seen(0, day=LOST, source="yard", status=FrameStatus.GATED, gate_reason="dark")])
    for n, day in enumerate(DAYS):
        append(made, [seen(2 * n + 1, day=day, source="gate"), dead_letter(2 * n + 2, day)])
    for day in DAYS:
        rebuild_day(store, day, now=NOON)
        build_summary(store, SOURCE_ACTIVITY.name, day, settings=Settings(), now=NOON)


def find(store: ObjectStore, wanted: WantedFrames, tmp_path: Path) -> tuple[date | None, int]:
    """Return the day, and how many stored objects were fetched to find it."""
    cache = tmp_path / "cache"
    day = latest_day(store, Settings(), wanted, known_days(store), cache_dir=cache)
    return day, len(list((cache / "objects").iterdir()))


@pytest.mark.medium
@pytest.mark.parametrize(
    ("wanted", "day", "fetched"),
    [
        pytest.param(WantedFrames(source="gate"), DAYS[-1], 1, id="active-source"),
        pytest.param(WantedFrames(source="yard"), LOST, 1 + 2 + 4, id="lost-source"),
        pytest.param(WantedFrames(status=FrameStatus.GATED), LOST, 1 + 2 + 4, id="status"),
        pytest.param(WantedFrames(source="yard", status=FrameStatus.PROCESSED), None, 10, id="source-and-status"),
        pytest.param(WantedFrames(source="cam-1"), None, 10, id="dead-letters-only"),
        pytest.param(WantedFrames(source="it's not there"), None, 10, id="no-source"),
    ],
)
def test_one_small_file_per_day_is_read_back_to_the_day_with_frames(ten_days, tmp_path, wanted, day, fetched):
    assert find(ten_days, wanted, tmp_path) == (day, fetched)


@pytest.mark.medium
def test_frames_newer_than_the_tables_count(store, tmp_path):
    newest = DAYS[-1] + timedelta(days=1)
    write_chain(store, [seen(0, day=DAY, source="yard")], [seen(1, day=newest, source="gate")])
    assert find(store, WantedFrames(source="yard"), tmp_path)[0] == DAY
    assert find(store, WantedFrames(source="gate"), tmp_path)[0] == newest


def test_a_store_without_days_has_no_latest_day(memory, tmp_path):
    assert latest_day(memory, Settings(), WantedFrames(source="gate"), [], cache_dir=tmp_path) is None
