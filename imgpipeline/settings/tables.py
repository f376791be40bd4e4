"""Tables, tracks, events and alerts, and when the Dagster UI shows a warning about a day or source."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import NoDecode

from imgpipeline.settings.variables import SettingsGroup, SourceLimits, limits_of


class TableSettings(SettingsGroup):
    """Tables, summaries and queries."""

    summary_threshold: float = Field(0.0, ge=0, le=1)
    """Summaries of labels exclude detections with a confidence below this."""
    accuracy_margin: float = Field(0.05, gt=0, le=1)
    """Largest systematic error of a count, as a share, that `imgpipeline accuracy accept` accepts."""
    nightly_at: str = Field("01:30", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    """Time of `nightly_rebuild` (UTC), which builds yesterday for the last time and all outdated days."""
    duckdb_memory: str | None = Field(None, pattern=r"(?i)^\d+(\.\d+)? ?[kmgt]i?b$")
    """Memory limit of a build or query, at least `200MB`; beyond it, data spills to disk. Default: a quarter of the
    machine's memory."""
    table_object_bytes: int = Field(500_000_000, ge=1_000, le=5_000_000_000)
    """A larger table is stored in several objects of at most about this size; see docs/tables.md."""


class WarningLimits(SettingsGroup):
    """Limits for warnings about a day or source. They change no result and stop nothing."""

    warn_dead_letter_share: float = Field(0.05, ge=0, le=1)
    """Warn if a larger share of a day's records are dead letters."""
    warn_dark_share: float = Field(0.8, ge=0, le=1)
    """Warn if a larger share of a day's frames are dark."""
    dark_brightness: int = Field(16, ge=0, le=256, multiple_of=16)
    """Frames with a mean luma below this count as dark: 0 is black, 255 white. A multiple of 16."""
    warn_label_share: float = Field(0.25, ge=0, le=1)
    """Warn if a label was counted less often than this share of its mean over the previous seven days."""
    source_silent_s: Annotated[SourceLimits, limits_of("seconds"), NoDecode] = SourceLimits(900)
    """A source counts as silent after this many seconds without a record; `off` for never. For single sources:
    `900,gate=60,uploads=off`."""


class TrackingSettings(SettingsGroup):
    """Tracks and unique objects."""

    tracker: Literal["bytetrack", "ocsort", "cbiou"] = "bytetrack"
    """How boxes are joined to tracks: ByteTrack, OC-SORT or C-BIoU. docs/tracking.md compares them."""
    track_groups: str = "person; car,van,truck,bus; bicycle,motorbike"
    """Labels that are tracked together; every other label is tracked alone."""
    track_confidence: float = Field(0.25, ge=0, le=1)
    """Detections below this confidence continue tracks but never start one."""
    track_lost_s: float = Field(1.0, gt=0, le=30)
    """A track ends when its object has not been found for this many seconds."""
    track_iou: float = Field(0.1, ge=0, le=1)
    """Minimum overlap (IoU) of a detection with the predicted box of its track."""
    track_gap_s: float = Field(2.0, gt=0, le=600)
    """All tracks of a source end after this many seconds without a frame (at low frame rates, after three typical
    intervals)."""
    track_stitch_s: float = Field(5.0, ge=0, le=50)
    """Tracks at most this many seconds apart can be counted as one object; 0: never."""
    unique_min_s: float = Field(1.0, ge=0, le=3600)
    """Minimum time in view of a unique object, in seconds."""


class EventSettings(SettingsGroup):
    """Events."""

    rules_file: str | None = None
    """Path of `rules.toml`, or `store` for the rules stored by `imgpipeline rules put`. Unset: no rules and no
    events."""


class AlertSettings(SettingsGroup):
    """Alerts."""

    alert_targets: SecretStr | None = None
    """Where alerts are sent: apprise URLs, separated by spaces, such as `mailtos://…` or `ntfys://…`, or `NAME=URL` for
    rules that notify NAME. Unset: alerts are recorded but not sent."""
    alert_messages_per_minute: int = Field(10, ge=1, le=1000)
    """If more alerts than this wait to be sent, they are sent as one summary."""
    alert_max_age_s: float = Field(3600.0, gt=0)
    """Events older than this many seconds, by the time of their frames, raise no alert."""


class SinkSettings(SettingsGroup):
    """Sinks: other systems that get a copy of the tables."""

    sinks: SecretStr | None = None
    """Sinks as `NAME=URL`, separated by spaces, such as `warehouse=postgresql://user:password@host/database`;
    docs/sinks.md lists the kinds."""
    sinks_today_s: float = Field(900.0, ge=0, le=86_400)
    """Shortest time between two exports of a day that is not over yet, in seconds."""
