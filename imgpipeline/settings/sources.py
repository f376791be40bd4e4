"""What holds for all sources: times without an offset, and observed time."""

from pydantic import Field
from pydantic_settings import BaseSettings

from imgpipeline.contracts.timezones import TimezoneName


class SourceSettings(BaseSettings):
    """Sources."""

    timezone: TimezoneName = Field("UTC", description="IANA time zone of the site, such as `Asia/Kolkata`: for EXIF "
        "and other times without an offset, and for days and hours of `summary` and `report`.")  # fmt: skip
    observed_gap_s: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="Of a longer gap between two frames, only this much counts as observed time, if the source sends "
        "no accounts.",
    )
