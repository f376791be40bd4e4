"""Counts the different cars and people of a video or sequence up to each frame, as classic trackers write them."""

from datetime import date

from imgpipeline.contracts.detection import Kind
from imgpipeline.lake.sessions.session import Answer, LakeSession
from imgpipeline.tracking.unique import OBJECTS, least_seen_s

_STATISTICS = f"""
WITH changes AS (
    SELECT first_seen AS shown_at, list_contains($cars, label) AS is_car, list_contains($people, label) AS is_person
    FROM ({OBJECTS})
    UNION ALL
    SELECT "timestamp", false, false FROM frames
    WHERE source = $source AND day = $day AND status = 'processed' AND $least_s IS NOT NULL
)
SELECT DISTINCT shown_at AT TIME ZONE 'UTC' AS "timestamp",
       count(*) FILTER (is_car) OVER (ORDER BY shown_at) AS num_cars,
       count(*) FILTER (is_person) OVER (ORDER BY shown_at) AS num_people
FROM changes ORDER BY ALL"""  # noqa: S608 - own SQL


def statistics(session: LakeSession, source: str, day: date) -> Answer:
    """Returns the number of unique cars and people up to each frame of a video or sequence on a UTC day.

    Times have no offset. As in `unique_totals`, objects that were seen for too short a time do not count. A day without
    tracks has no rows.
    """
    labels = {kind.value: kind.labels for kind in Kind}
    return session.query(_STATISTICS, {"source": source, "day": day, "least_s": least_seen_s(session, day), **labels})
