"""The recipe of a day's tracks, and the manifest in each of their stored tables.

Importing this module does not load the tracking library.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from importlib.metadata import version

from imgpipeline.lake.days.summary_inputs import stored_key
from imgpipeline.lake.schema.tracks import STORED_TRACK_TABLES, TRACKS_SCHEMA_VERSION
from imgpipeline.lake.storage.manifest import BaseManifest, StoredObject, read_object
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.settings.tables import TrackingSettings
from imgpipeline.tracking.day_objects import queries
from imgpipeline.tracking.values import TrackingParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class TracksManifest(BaseManifest):
    """How one table of a day's tracks was made.

    `made_of` has the versions of the day's tables, and hashes of the rows that were read from the neighbouring days.
    """

    followed_by: str
    """Hash of everything that the tracks of a slice depend on except its detections: parameters, groups and library."""
    library: str
    """The tracking library with its version."""
    settings: Mapping[str, str | float]
    frame_rates: Mapping[str, float]
    """Median observed frame rate of each source, in frames per second."""


StoredTracks = StoredObject[TracksManifest]
"""One stored table of tracks."""


def read_tracks(store: ObjectStore, day: date) -> dict[str, StoredTracks | None]:
    """Returns the stored tables of a day's tracks by key, in write order; raises DamagedObjectError."""
    keys = [stored_key(table.name, day) for table in STORED_TRACK_TABLES]
    return {key: read_object(store, key, TracksManifest) for key in keys}


def library_version() -> str:
    """Returns the version of the tracking library, such as `trackers 2.6.1`."""
    return f"trackers {version('trackers')}"


def tracks_recipe(settings: Settings) -> str:
    """Returns the hash of everything that determines a day's tracks except its inputs, 16 hexadecimal digits."""
    values = [(name, getattr(settings, name)) for name in (*TrackingSettings.model_fields, "observed_gap_s")]
    parts = (TRACKS_SCHEMA_VERSION, TrackingParameters.of(settings).recipe(library_version()), values, queries())
    return sha256(repr(parts).encode()).hexdigest()[:16]
