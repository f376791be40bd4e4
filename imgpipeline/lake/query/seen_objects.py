"""The different objects of a day, one row each: what `unique_totals` counts."""

from datetime import date

import pyarrow as pa

from imgpipeline.lake.sessions.session import LakeSession

_OBJECTS = """
WITH labels AS (
    SELECT unique_id, first(label ORDER BY points DESC, label) AS label
    FROM (SELECT unique_id, label, sum(points) AS points FROM tracks WHERE day = $day GROUP BY unique_id, label)
    GROUP BY unique_id
)
SELECT unique_id, any_value(source) AS source, labels.label, min(first_seen) AS first_seen, max(last_seen) AS last_seen,
       (epoch_us(max(last_seen)) - epoch_us(min(first_seen))) / 1e6 AS stay_s,
       count(*) AS tracks, CAST(sum(points) AS BIGINT) AS points,
       list(DISTINCT object_id ORDER BY object_id) AS object_ids, arg_max(best_frame_id, points) AS best_frame_id
FROM tracks JOIN labels USING (unique_id) WHERE day = $day
GROUP BY unique_id, labels.label
HAVING stay_s >= $least_s AND ($source IS NULL OR any_value(source) = $source)
       AND ($label IS NULL OR labels.label = $label)
ORDER BY first_seen, unique_id
"""


def seen_objects(
    lake: LakeSession, day: date, *, source: str | None = None, label: str | None = None, least_s: float
) -> pa.Table:
    """Returns the objects of a day in the order in which they were first seen; none while the day has no tracks.

    Args:
        lake: The session.
        day: UTC day.
        source: Only objects of this source.
        label: Only objects of this label: the one that most of an object's detections have.
        least_s: Only objects that were seen for at least this time, in seconds (the setting `unique_min_s`).

    Returns:
        `unique_id`, `source`, `label`, `first_seen`, `last_seen`, `stay_s`, `tracks` (how many), `points`
        (detections), `object_ids` (what it was before it was stitched over short times), `best_frame_id`.

    Raises:
        PermanentError: A stored table is damaged.
        TransientError: The store does not answer.
    """
    return lake.arrow(_OBJECTS, {"day": day, "source": source, "label": label, "least_s": least_s})
