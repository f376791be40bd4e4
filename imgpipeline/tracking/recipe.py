"""The recipe of tracks: all that makes them except their inputs. Reading it does not load the tracking library."""

from hashlib import sha256
from importlib.metadata import version

from imgpipeline.lake.schema.tracks import TRACKS_SCHEMA_VERSION
from imgpipeline.settings import Settings
from imgpipeline.settings.tracking import TrackingSettings
from imgpipeline.tracking.day_objects import queries
from imgpipeline.tracking.values import TrackingParameters


def library_version() -> str:
    """Returns the version of the tracking library, such as `trackers 2.6.1`."""
    return f"trackers {version('trackers')}"


def tracks_recipe(settings: Settings) -> str:
    """Returns the hash of all that makes a day's tracks but its inputs, 16 hexadecimal digits."""
    values = [(name, getattr(settings, name)) for name in (*TrackingSettings.model_fields, "observed_gap_s")]
    parts = (TRACKS_SCHEMA_VERSION, TrackingParameters.of(settings).recipe(library_version()), values, queries())
    return sha256(repr(parts).encode()).hexdigest()[:16]
