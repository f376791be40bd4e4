"""The work of the scale test: a backlog of announced frames, and days in the ledger that a backfill builds."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import cv2

from benchmarks.synthetic_days import SyntheticDay, make_day
from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline_tests.scale.place import LOCATION, ScalePlace
from imgpipeline_tests.servers.announcing import Announcer

FRAMES_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
"""Time of the first announced frame."""
FRAMES_PER_DAY = 40
_STORED = "stored-"
_SOURCES = 16
"""So many, and so named, that each of the four partitions gets a quarter of the frames."""


def days_before(count: int) -> list[date]:
    """Return the consecutive days before the one of the announced frames."""
    return [FRAMES_AT.date() - timedelta(days=number) for number in range(count, 0, -1)]


def announce_frames(place: ScalePlace, numbers: range) -> None:
    """Announce frames of many sources, which all show the same small picture."""
    image, _ = Scene(3, frames=60).frame(20)
    done, data = cv2.imencode(".jpg", cv2.resize(image, (320, 192)))
    assert done
    place.store.put("images/one.jpg", data.tobytes())
    with Announcer(place.site.settings) as announcer:
        for number in numbers:
            nth, source = divmod(number, _SOURCES)
            time = FRAMES_AT + timedelta(seconds=nth)
            announcer.announce(FrameMessage(f"dock_{source}", "images/one.jpg", time, frame_number=nth))


def store_days(place: ScalePlace, days: Sequence[date]) -> None:
    """Put frames of days into the ledger, as if they had been detected long ago."""
    for day in days:
        make_day(place.store, SyntheticDay(FRAMES_PER_DAY, day=day, topic_id=f"{_STORED}{day}"))


def is_stored_day(chain: ChainId) -> bool:
    """Tell whether a chain is one of `store_days`, not of the announced frames."""
    return chain.topic_id.startswith(_STORED)


def launch_backfill(place: ScalePlace, days: Sequence[date]) -> None:
    """Launch a backfill with a run for each day."""
    wanted = ",".join(map(str, days))
    chosen = ("-w", "workspace.yaml", "-l", LOCATION, "-j", "rebuild_days", "--partitions", wanted)
    place.site.run("dagster", "job", "backfill", *chosen, "--noprompt", limit_s=300)
