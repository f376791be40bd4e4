"""The audit finds alerts without an event and events without an alert, and ignores expected differences."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from imgpipeline.contracts.keys import alert_key, segment_key
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.events.alerts.audit import AlertAudit, audit_alerts
from imgpipeline.events.alerts.chain import read_alert
from imgpipeline.events.alerts.watching import Watch
from imgpipeline.events.reading import read_events
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.schema.events import EVENTS
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.daily.builds import build_table, build_tracks
from imgpipeline_tests.events.samples import CROSSES, NOON, STOP, rules
from imgpipeline_tests.lake.samples import detection
from imgpipeline_tests.ledger.samples import CHAIN, DAY, append, frame, writer
from imgpipeline_tests.objectstore.stores import folder_settings
from imgpipeline_tests.tracking.films import Car, film

pytestmark = pytest.mark.medium

CROWD = '[[rule]]\nname = "crowd"\nkind = "count"\nabove = 1\ncooldown_s = 100\n'
LATER = NOON + timedelta(days=1)


def seen(offset: int, second: float, persons: int, *, processed_after_s: float = 1) -> Frame:
    """Return a frame with some persons at a second after noon."""
    at = NOON + timedelta(seconds=second)
    return replace(
        frame(offset),
        frame_id=f"{offset:032d}",
        timestamp=at,
        processing_timestamp=at + timedelta(seconds=processed_after_s),
        detections=tuple(detection("person") for _ in range(persons)),
    )


CROWDED = (seen(0, 0, 0), seen(1, 60, 2), seen(2, 120, 0), seen(3, 240, 3), seen(4, 300, 0))
"""Two events: the crowd of the second frame, and that of the fourth."""


def look(store: ObjectStore, tmp_path: Path, *, text: str = CROWD, at: datetime = NOON) -> None:
    """Let a watch look once."""
    Watch(store, folder_settings(tmp_path), rules(text), lambda: at).look()


def build(store: ObjectStore, tmp_path: Path, *, text: str = CROWD) -> list[str]:
    """Build the day's tables; return its events by time."""
    settings = folder_settings(tmp_path)
    rebuild_day(store, DAY, now=NOON)
    build_table(store, DAY, EVENTS, rules=rules(text), settings=settings, now=LATER)
    return [event.event_id for event in read_events(store, settings, DAY)][::-1]


def audit(store: ObjectStore, tmp_path: Path, *, at: datetime = LATER, text: str = CROWD) -> AlertAudit:
    """Compare, with the rules of today in a file."""
    file = tmp_path / "rules.toml"
    file.write_text(text)
    return audit_alerts(store, folder_settings(tmp_path).model_copy(update={"rules_file": str(file)}), now=at)


def watched(store: ObjectStore, tmp_path: Path, frames: Sequence[Frame] = CROWDED) -> None:
    """Have a watch that runs from before the first frame to after the last one."""
    look(store, tmp_path)
    append(writer(store), frames)
    look(store, tmp_path, at=NOON + timedelta(minutes=10))


def test_alerts_that_match_the_events_have_no_differences(store, tmp_path):
    watched(store, tmp_path)
    assert len(build(store, tmp_path)) == 2
    assert audit(store, tmp_path) == AlertAudit(alerts=2, days=1)


def test_a_store_without_alerts_has_nothing_to_compare(store, tmp_path):
    append(writer(store), CROWDED)
    build(store, tmp_path)
    assert audit(store, tmp_path) == AlertAudit()


def test_an_event_that_no_watch_looked_at_is_reported_with_the_next_step_unless_it_is_new(store, tmp_path):
    watched(store, tmp_path, CROWDED[:3])
    append(writer(store), CROWDED[3:])
    _, missed = build(store, tmp_path)
    assert audit(store, tmp_path, at=NOON + timedelta(seconds=250)) == AlertAudit(alerts=1, days=1)
    in_time = NOON + timedelta(minutes=20)
    for at, step in ((LATER, "stays without an alert"), (in_time, "it can still raise an alert")):
        (difference,) = audit(store, tmp_path, at=at).differences
        assert difference.startswith(f"Event {missed} (crowd at cam-1, 2026-01-09T12:04:00.000000Z) has no alert")
        assert step in difference
        assert ("within 1:00:00" in difference) == (at == LATER), "an hour has not passed for the other"


def test_an_event_of_tracked_objects_may_still_get_its_alert_after_each_build_of_its_table(store, tmp_path):
    text, built_at = STOP + CROSSES, NOON + timedelta(minutes=33)
    look(store, tmp_path, text=text)
    filmed = film(NOON, NOON + timedelta(minutes=20), [Car(NOON, NOON + timedelta(minutes=20))])
    append(writer(store), [replace(one, processing_timestamp=one.timestamp) for one in filmed])
    rebuild_day(store, DAY, now=built_at)
    build_tracks(store, DAY, settings=folder_settings(tmp_path), now=built_at)
    build_table(store, DAY, EVENTS, rules=rules(text), settings=folder_settings(tmp_path), now=built_at)
    assert audit(store, tmp_path, text=text, at=built_at - timedelta(seconds=30)) == AlertAudit(days=1)
    assert audit(store, tmp_path, text=text, at=built_at + timedelta(seconds=30)) == AlertAudit(days=1)
    (difference,) = audit(store, tmp_path, text=text, at=built_at + timedelta(minutes=3)).differences
    assert "crosses at gate" in difference


def test_an_event_that_was_almost_too_old_when_it_was_processed_needs_no_alert(store, tmp_path):
    look(store, tmp_path)
    append(writer(store), [seen(0, 0, 2, processed_after_s=3590)])
    assert len(build(store, tmp_path)) == 1
    assert audit(store, tmp_path) == AlertAudit(days=1)


def test_an_alert_about_frames_newer_than_the_events_is_not_a_difference(store, tmp_path):
    watched(store, tmp_path, CROWDED[:3])
    build(store, tmp_path)
    append(writer(store), CROWDED[3:])
    look(store, tmp_path, at=NOON + timedelta(minutes=10))
    assert audit(store, tmp_path) == AlertAudit(alerts=2, days=1, newer_alerts=1)
    build(store, tmp_path)
    assert audit(store, tmp_path) == AlertAudit(alerts=2, days=1)


def test_a_day_with_alerts_whose_newer_segments_cannot_be_read_is_not_compared(store, tmp_path):
    watched(store, tmp_path, CROWDED[:3])
    build(store, tmp_path)
    append(writer(store), CROWDED[3:])
    look(store, tmp_path, at=NOON + timedelta(minutes=10))
    store.put(segment_key(CHAIN, 3), b"damaged")
    found = audit(store, tmp_path)
    assert (found.days, found.differences) == (0, [])
    assert "imgpipeline ledger repair" in found.not_compared[DAY]


def test_an_event_in_frames_that_arrived_late_needs_no_alert(store, tmp_path):
    look(store, tmp_path)
    append(writer(store), [seen(0, 0, 2, processed_after_s=7200)])
    look(store, tmp_path, at=NOON + timedelta(seconds=7201))
    assert len(build(store, tmp_path)) == 1
    assert audit(store, tmp_path) == AlertAudit(days=1)


def test_a_late_frame_that_moved_an_event_by_its_cooldown_is_named_as_the_cause(store, tmp_path):
    watched(store, tmp_path, CROWDED[:3])
    append(writer(store), [replace(seen(3, 30, 2), processing_timestamp=LATER - timedelta(hours=1))])
    (moved,) = build(store, tmp_path)
    (difference,) = audit(store, tmp_path).differences
    assert "Alert 1 (crowd at cam-1, 2026-01-09T12:01:00.000000Z) has no event" in difference
    assert f"event {moved} is within the cooldown" in difference
    assert "imgpipeline alerts show 1" in difference


def test_events_of_changed_rules_are_not_compared(store, tmp_path):
    watched(store, tmp_path)
    build(store, tmp_path, text=CROWD.replace("above = 1", "above = 2"))
    found = audit(store, tmp_path)
    assert (found.differences, found.changed_rules) == ([], 1)  # the alert about two persons


def test_a_rule_must_raise_alerts_from_its_first_watch_on(store, tmp_path):
    both = CROWD + CROWD.replace('"crowd"', '"again"')
    watched(store, tmp_path)
    look(store, tmp_path, text=both, at=NOON + timedelta(minutes=120))
    append(writer(store), [seen(5, 2 * 3600 + 60, 2)])
    assert len(build(store, tmp_path, text=both)) == 6
    found = audit(store, tmp_path)
    assert found.changed_rules == 2  # what the new rule finds in the frames before it was watched
    assert sorted(each.partition(" (")[2].partition(" at ")[0] for each in found.differences) == ["again", "crowd"]


def test_a_day_whose_events_are_not_built_or_outdated_is_not_compared(store, tmp_path):
    watched(store, tmp_path)
    assert "no table `frames` yet" in audit(store, tmp_path).not_compared[DAY]
    build(store, tmp_path)
    append(writer(store), [seen(5, 400, 0)])
    rebuild_day(store, DAY, now=NOON)
    assert audit(store, tmp_path).not_compared == {DAY: "its table `events` is stale"}


def test_two_alerts_of_one_event_and_a_missing_number_are_errors(store, tmp_path):
    watched(store, tmp_path)
    build(store, tmp_path)
    second = replace(read_alert(store, 1), number=3)
    store.put(alert_key(3), json.dumps(second.to_json()).encode())
    (problem,) = audit(store, tmp_path).problems
    assert problem.startswith("Alerts 1 and 3 are about the same event")
    store.delete(alert_key(2))
    (problem,) = audit(store, tmp_path).problems
    assert "Alert 2 is missing" in problem
