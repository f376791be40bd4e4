"""An image announced without a time on two days has one `frame_id`: it counts once on each day."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from imgpipeline.contracts.outcomes import Frame, make_frame_id_without_time
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.query.explain import NumberId, explain
from imgpipeline.lake.query.frames import list_frames
from imgpipeline.lake.query.wanted_frames import WantedFrames
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.lake.audits import run_audit
from imgpipeline_tests.lake.conftest import OpenLake
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import DAY, NOON, write_chain

NEXT = DAY + timedelta(days=1)
FRAME_ID = make_frame_id_without_time("images/gate/poster.jpg", "an e-tag")


def poster(offset: int, *labels: str, day: date) -> Frame:
    """Return the image with what a detector found in it when it was announced at an offset."""
    return replace(seen(offset, labels, day), frame_id=FRAME_ID)


@pytest.fixture(params=[[], [DAY], [DAY, NEXT]], ids=["unbuilt", "first day built", "both days built"])
def lake_of_two_days(request: pytest.FixtureRequest, memory: ObjectStore) -> ObjectStore:
    """Announce the image on one day, then twice on the next, where another model finds more in it."""
    write_chain(memory, [poster(0, "car", "dog", day=DAY)], [poster(1, "car", "car", "person", day=NEXT)])
    write_chain(memory, [poster(2, "person", day=NEXT)])
    for day in request.param:
        rebuild_day(memory, day, now=NOON)
    return memory


@pytest.mark.medium
def test_each_day_counts_it_once(lake_of_two_days: ObjectStore, lake: OpenLake):
    with lake(lake_of_two_days) as session:
        assert session.query("SELECT day, frame_id, source_kafka_offset FROM frames ORDER BY day").rows == [
            (DAY, FRAME_ID, 0),
            (NEXT, FRAME_ID, 1),
        ]
        assert session.query("SELECT day, sum(frames) FROM frame_stats GROUP BY day ORDER BY day").rows == [
            (DAY, 1),
            (NEXT, 1),
        ]
        assert session.query("SELECT day, label, count, distinct_frames FROM label_counts ORDER BY ALL").rows == [
            (DAY, "car", 1, 1),
            (DAY, "dog", 1, 1),
            (NEXT, "car", 2, 1),
            (NEXT, "person", 1, 1),
        ]
        assert [len(found) for found in list_frames(session, WantedFrames()).table["detections"].to_pylist()] == [2, 2]
    assert run_audit(lake_of_two_days, full=True).ok


@pytest.mark.medium
def test_detections_belong_to_the_frame_of_their_day(lake_of_two_days: ObjectStore, lake: OpenLake):
    joined = (
        "SELECT day, f.source_kafka_offset, count(*) FROM frames AS f JOIN detections AS d USING (day, frame_id) "
        "WHERE d.source_kafka_offset = f.source_kafka_offset GROUP BY ALL ORDER BY ALL"
    )
    with lake(lake_of_two_days) as session:
        assert session.query(joined).rows == [(DAY, 0, 2), (NEXT, 1, 3)]
        assert session.query("SELECT count(*) FROM frames JOIN detections USING (day, frame_id)").rows == [(5,)]


@pytest.mark.medium
@pytest.mark.parametrize(("day", "offset", "cars"), [(DAY, 0, 1), (NEXT, 1, 2)], ids=["first day", "second day"])
def test_a_number_is_traced_to_the_frame_of_its_day(
    lake_of_two_days: ObjectStore, lake: OpenLake, day: date, offset: int, cars: int
):
    with lake(lake_of_two_days) as session:
        found = explain(session, lake_of_two_days, NumberId(day, None, "car"), Settings(_env_file=None))
        assert (found.count, found.frames, [each.offset for each in found.detections]) == (cars, 1, [offset] * cars)
        by_macro = f"SELECT source_kafka_offset FROM explain_label_counts(DATE '{day}', 12, 'car')"  # noqa: S608 - a day
        assert session.query(by_macro).rows == [(offset,)] * cars
