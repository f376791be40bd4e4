"""Tracks, unique objects, events and alerts."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings


class TrackingSettings(BaseSettings):
    """Tracks and unique objects."""

    track_groups: str = Field(
        "person; car,van,truck,bus; bicycle,motorbike",
        description="Labels that are tracked together; every other label is tracked alone.",
    )
    track_confidence: float = Field(
        0.25, ge=0, le=1, description="Detections below this confidence continue tracks but never start one."
    )
    track_lost_s: float = Field(
        1.0, gt=0, le=30, description="A track ends when its object has not been found for this many seconds."
    )
    track_iou: float = Field(
        0.1, ge=0, le=1, description="Minimum overlap (IoU) of a detection with the predicted box of its track."
    )
    track_gap_s: float = Field(
        2.0,
        gt=0,
        le=600,
        description="All tracks of a source end after this many seconds without a frame (at low frame rates, after "
        "three typical intervals).",
    )
    track_stitch_s: float = Field(
        5.0, ge=0, le=50, description="Tracks at most this many seconds apart can be counted as one object; 0: never."
    )
    unique_min_s: float = Field(1.0, ge=0, le=3600, description="Minimum time in view of a unique object, in seconds.")


class EventSettings(BaseSettings):
    """Events."""

    rules_file: str | None = Field(
        None,
        description="Path of `rules.toml`, or `store` for the rules stored by `imgpipeline rules put`. Unset: no rules "
        "and no events.",
    )


class AlertSettings(BaseSettings):
    """Alerts."""

    alert_targets: SecretStr | None = Field(
        None,
        description="Where alerts are sent: apprise URLs, separated by spaces, such as `mailtos://…` or `ntfys://…`, "
        "or `NAME=URL` for rules that notify NAME. Unset: alerts are recorded but not sent.",
    )
    alert_messages_per_minute: int = Field(
        10, ge=1, le=1000, description="If more alerts than this wait to be sent, they are sent as one summary."
    )
    alert_max_age_s: float = Field(
        3600.0, gt=0, description="Events older than this many seconds, by the time of their frames, raise no alert."
    )
