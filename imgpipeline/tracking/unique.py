"""The different objects of a day as its build counted them: which they are, and for how long they had to be seen."""

from datetime import date

import pyarrow as pa

from imgpipeline.lake.schema.tracks import UNIQUE_TOTALS
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.lake.storage.engine import read_sql
from imgpipeline.lake.storage.manifest import parse_manifest
from imgpipeline.tracking.manifest import TracksManifest

OBJECTS = f"""
WITH day_tracks AS (SELECT * FROM tracks WHERE day = $day AND ($source IS NULL OR source = $source))
{read_sql("imgpipeline.tracking", "objects")}"""  # noqa: S608 - own SQL
"""The objects of a source of a UTC day, or of all sources."""
_SEEN = f"""
SELECT object_id, source, label, first_seen, last_seen, stay_us / 1e6 AS stay_s, tracks, points, best_frame_id
FROM ({OBJECTS}) WHERE $label IS NULL OR label = $label
ORDER BY first_seen, object_id"""  # noqa: S608 - own SQL


def shown_build(session: LakeSession, day: date) -> TracksManifest | None:
    """Returns how the objects were counted that a session shows of a UTC day; None if the day has no tracks."""
    path = session.stored_file(UNIQUE_TOTALS.name, day)
    return parse_manifest(path, path.name, TracksManifest) if path else None


def least_seen_s(session: LakeSession, day: date) -> float | None:
    """Returns for how many seconds an object of a UTC day had to be seen to count; None if the day has no tracks."""
    build = shown_build(session, day)
    return float(build.settings["unique_min_s"]) if build else None


def seen_objects(session: LakeSession, day: date, *, source: str | None = None, label: str | None = None) -> pa.Table:
    """Returns the different objects of a day, which `unique_totals` counts, by the time when they were first seen.

    There are none while the day has no tracks.

    Args:
        day: UTC day.
        source: Only objects of this source.
        label: Only objects with this label for most of their detections.

    Returns:
        The columns `object_id`, `source`, `label`, `first_seen`, `last_seen`, `stay_s`, `tracks` (number), `points`
        (detections), `best_frame_id`.

    Raises:
        PermanentError: A stored table is damaged.
        TransientError: The store does not answer.
    """
    given = {"day": day, "source": source, "label": label, "least_s": least_seen_s(session, day) or 0.0}
    return session.arrow(_SEEN, given)
