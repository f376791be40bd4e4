"""The recipe of a day's tracks, and the manifest in each of their stored tables.

Importing this module does not load the tracking library.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from hashlib import sha256
from importlib.metadata import version

from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.lake.days.summary_inputs import stored_key
from imgpipeline.lake.schema.tracks import STORED_TRACK_TABLES, TRACKS_SCHEMA_VERSION
from imgpipeline.lake.storage.manifest import StoredObject, read_object
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.settings.tables import TrackingSettings
from imgpipeline.tracking.day_objects import queries
from imgpipeline.tracking.values import TrackingParameters


@dataclass(frozen=True, slots=True)
class TracksManifest:
    """How one table of a day's tracks was made, and from which inputs."""

    table: str
    day: date
    made_by: str
    """Recipe: hash of columns, queries and all settings, 16 hexadecimal digits."""
    made_of: Mapping[str, str]
    """Versions of the day's tables, and hashes of the rows that were read from the neighbouring days."""
    followed_by: str
    """Hash of everything that the tracks of a slice depend on except its detections: parameters, groups and library."""
    library: str
    """The tracking library with its version."""
    parameters: Mapping[str, str | float]
    frame_rates: Mapping[str, float]
    """Median observed frame rate of each source, in frames per second."""
    rows: int
    content: str
    """Hash of the rows, which is the table's version."""
    built_at: datetime

    def to_json(self) -> str:
        """Returns the manifest as the text in the Parquet footer."""
        texts = {"day": self.day.isoformat(), "built_at": format_time(self.built_at)}
        return json.dumps({**asdict(self), **texts}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "TracksManifest":
        """Reads the output of `to_json`; raises KeyError, TypeError or ValueError for any other text."""
        data = json.loads(text)
        times = {"day": date.fromisoformat(data["day"]), "built_at": parse_time(data["built_at"])}
        return cls(**{**data, **times})


StoredTracks = StoredObject[TracksManifest]
"""One stored table of tracks."""


def read_tracks(store: ObjectStore, day: date) -> dict[str, StoredTracks | None]:
    """Returns the stored tables of a day's tracks by key, in write order; raises DamagedObjectError."""
    keys = [stored_key(table.name, day) for table in STORED_TRACK_TABLES]
    return {key: read_object(store, key, TracksManifest.from_json) for key in keys}


def library_version() -> str:
    """Returns the version of the tracking library, such as `trackers 2.6.1`."""
    return f"trackers {version('trackers')}"


def tracks_recipe(settings: Settings) -> str:
    """Returns the hash of everything that determines a day's tracks except its inputs, 16 hexadecimal digits."""
    values = [(name, getattr(settings, name)) for name in (*TrackingSettings.model_fields, "observed_gap_s")]
    parts = (TRACKS_SCHEMA_VERSION, TrackingParameters.of(settings).recipe(library_version()), values, queries())
    return sha256(repr(parts).encode()).hexdigest()[:16]
