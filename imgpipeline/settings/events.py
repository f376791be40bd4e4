"""Tracks, unique objects, events and alerts."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings


class TrackingSettings(BaseSettings):
    """Tracks and unique objects."""

    track_groups: str = Field(
        "person; car,van,truck,bus; bicycle,motorbike",
        description="Labels that are followed together; every other label is followed alone.",
    )
    track_confidence: float = Field(
        0.25, ge=0, le=1, description="Detections below this confidence continue tracks but begin none."
    )
    track_lost_s: float = Field(
        1.0, gt=0, le=30, description="A track ends when its object was not found for this many seconds."
    )
    track_iou: float = Field(
        0.1, ge=0, le=1, description="Least overlap (IoU) of a detection with where its track is expected."
    )
    track_gap_s: float = Field(
        2.0,
        gt=0,
        le=600,
        description="All tracks of a source end after this many seconds without a frame (at low frame rates, after "
        "three usual intervals).",
    )
    track_stitch_s: float = Field(
        5.0, ge=0, le=50, description="Tracks at most this many seconds apart may be counted as one object; 0: never."
    )
    unique_min_s: float = Field(
        1.0, ge=0, le=3600, description="Objects seen for a shorter time are not unique objects, in seconds."
    )


class EventSettings(BaseSettings):
    """Events."""

    rules_file: str | None = Field(
        None,
        description="Path of `rules.toml`, or `store` for the one that `imgpipeline rules put` has stored. Unset: no "
        "rules, and no events are built.",
    )


class AlertSettings(BaseSettings):
    """Alerts."""

    alert_targets: SecretStr | None = Field(
        None,
        description="Where alerts are sent: URLs of apprise, separated by spaces, such as `mailtos://…` or "
        "`ntfys://…`, or `NAME=URL` for rules that notify NAME. Unset: alerts are written, and not sent.",
    )
    alert_messages_per_minute: int = Field(
        10, ge=1, le=1000, description="If more alerts than this wait to be sent, they are sent as one summary."
    )
    alert_max_age_s: float = Field(
        3600.0, gt=0, description="Older events raise no alert, in seconds by the time of their frames."
    )
