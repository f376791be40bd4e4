"""Which frames a detection run leaves out before detection. Sources have gates of their own (docs/sources.md)."""

import re

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

_HOURS = re.compile(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", re.ASCII)


class GateSettings(BaseSettings):
    """Gating in detection runs; nothing is left out by default."""

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
        description="Frames whose luma differs by less than this, on average, from the last frame kept of the same "
        "source are `gated`.",
    )
    gate_hours: str | None = Field(
        None,
        description="Frames outside these hours of the site's time zone are `gated`: `06:00-20:30`; may span midnight.",
    )

    @field_validator("gate_hours")
    @classmethod
    def _check_hours(cls, value: str | None) -> str | None:
        if value is not None and not _HOURS.fullmatch(value.replace(" ", "")):
            raise ValueError(f"got {value!r}, expected hours such as 06:00-20:30")
        return value
