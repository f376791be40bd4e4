"""A lane with a ledger to damage, the ways to damage it, and mending it."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from kafka import TopicPartition

from imgpipeline.contracts.keys import DAMAGED, METADATA
from imgpipeline.contracts.times import utc_now
from imgpipeline.detect.ledger_repair import repair_ledger
from imgpipeline.errors import LedgerError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.ledger.repair.damage import RepairReport
from imgpipeline.ledger.repair.repair_list import list_repairs, still_open
from imgpipeline.stream.connection import open_admin
from imgpipeline_tests.detect.conftest import LaneUnderTest
from imgpipeline_tests.faults.invariant import check

Damage = Callable[[bytes], bytes | None]
DAMAGES: dict[str, Damage] = {
    "emptied": lambda _: b"",
    "flipped": lambda data: data[:40] + bytes([data[40] ^ 4]) + data[41:],
    "cut": lambda data: data[: len(data) // 2],
    "removed": lambda _: None,
}
each_damage = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())


@pytest.fixture
def followed(lane: LaneUnderTest) -> LaneUnderTest:
    """Twelve frames in four segments of three, with the tables and the summary of their day."""
    own = lane.with_settings(segment_max_records=3, commit_interval_s=60.0)
    own.announce(12)
    own.follow()
    check(own.settings)
    assert len(keys(own)) == 4
    return own


def keys(lane: LaneUnderTest) -> list[str]:
    return sorted(info.key for info in lane.store.list_objects(METADATA))


def hurt(lane: LaneUnderTest, number: int, damage: Damage = DAMAGES["emptied"]) -> tuple[str, bytes | None]:
    """Damages a segment; returns its key and what is there now."""
    key = keys(lane)[number]
    return key, hurt_object(lane, key, damage)


def hurt_object(lane: LaneUnderTest, key: str, damage: Damage) -> bytes | None:
    """Damages any object; returns what is there now."""
    bad = damage(lane.store.get(key))
    if bad is None:
        lane.store.delete(key)
    else:
        lane.store.put(key, bad)
    return bad


def repair(lane: LaneUnderTest, **options: object) -> RepairReport:
    """Repairs the ledger, and builds the days that it names as the sensor would, without force."""
    report = repair_ledger(lane.settings, lane.store, clock=utc_now, **options)
    with suppress(LedgerError):  # other damage keeps them from being built
        for day in report.days:
            rebuild_day(lane.store, day, now=utc_now())
    if not options and not report.blocked:
        assert still_open(list_repairs(lane.store)) == [], "followers would read a range again each time"
    return report


def kept(lane: LaneUnderTest) -> list[bytes]:
    return [lane.store.get(info.key) for info in lane.store.list_objects(DAMAGED)]


def drop_records(lane: LaneUnderTest, before: int) -> None:
    with open_admin(lane.settings) as admin:
        admin.delete_records({TopicPartition(lane.settings.kafka_topic, 0): before})
