"""Detection runs: when they start and end, what they read ahead, what they reject, and which frames they gate."""

import re
from datetime import date, datetime, timedelta

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from imgpipeline.contracts.times import HOURS_PATTERN, day_of


class DetectionSettings(BaseSettings):
    """Detection runs."""

    lanes: int = Field(
        1, ge=1, le=1000, description="Number of parallel detection runs; topic partitions are spread over them."
    )
    linger_s: float = Field(20.0, ge=0, description="A detection run ends when its lane has been idle for this long.")
    max_run_s: float = Field(900.0, gt=0, description="A detection run ends after this long; the next one continues.")
    takeover_s: float = Field(180.0, gt=0, description="A run without progress for this long is replaced by a new one.")
    retry_pause_s: float = Field(
        10.0,
        gt=0,
        le=600,
        description="Pause after a failed run. It doubles with each further failure at the same end of the ledger, up "
        "to ten minutes.",
    )
    max_detect_s: float = Field(
        60.0,
        gt=0,
        description="After runs have died, frames are processed one by one in a separate process. A frame that takes "
        "longer than this to decode and detect there counts as one that killed the process.",
    )
    commit_interval_s: float = Field(
        1.0,
        gt=0,
        description="A segment is closed at this age. Larger values cost fewer requests, smaller ones make frames "
        "visible sooner.",
    )
    segment_max_records: int = Field(1000, ge=1, le=100_000, description="A segment is closed at this many outcomes.")
    prefetch_images: int = Field(32, ge=1, le=1024, description="Images to read ahead of the detector.")
    max_message_bytes: int = Field(16 * 2**20, ge=1024, description="Larger Kafka records become `TOO_LARGE`.")
    max_image_bytes: int = Field(
        64 * 2**20, ge=1024, description="Larger image objects become `TOO_LARGE` without being read."
    )
    max_image_pixels: int = Field(100_000_000, ge=1, description="Images that claim more pixels are not decoded.")
    dead_letter_raw_bytes: int = Field(65_536, ge=0, description="Largest raw record that a dead letter keeps.")
    first_day: date = Field(
        date(2000, 1, 1),
        description="First accepted day (UTC) and first daily partition; earlier frames are dead letters.",
    )
    max_future_s: float = Field(
        3600.0,
        ge=0,
        le=86_400,
        description="Frames whose time is further ahead of the clock are dead letters.",
    )
    allow_gaps: bool = Field(
        False,
        description="Continue if Kafka has dropped unread records; the loss is recorded as a gap.",
    )

    def accepts_time(self, time: datetime, now: datetime) -> bool:
        """Returns whether a frame with this time is accepted."""
        return self.first_day <= day_of(time) and time <= now + timedelta(seconds=self.max_future_s)


class GateSettings(BaseSettings):
    """Gates that exclude frames from detection; none by default. Sources have their own gates (docs/sources.md)."""

    gate_min_brightness: float | None = Field(
        None, ge=0, le=255, description="Frames with a mean luma (0 to 255) below this are `gated`: no detection."
    )
    gate_min_sharpness: float | None = Field(
        None, ge=0, description="Frames with a sharpness (variance of the Laplacian) below this are `gated`."
    )
    gate_min_change: float | None = Field(
        None,
        ge=0,
        le=255,
        description="Frames whose luma differs by less than this, on average, from the last kept frame of the same "
        "source are `gated`.",
    )
    gate_hours: str | None = Field(
        None,
        description="Frames outside these hours of the site's time zone are `gated`: `06:00-20:30`; may span midnight.",
    )

    @field_validator("gate_hours")
    @classmethod
    def _check_hours(cls, value: str | None) -> str | None:
        bare = None if value is None else "-".join(time.strip() for time in value.split("-"))
        if bare is not None and not re.fullmatch(HOURS_PATTERN, bare, re.ASCII):
            raise ValueError(f"got {value!r}, expected hours such as 06:00-20:30")
        return value
