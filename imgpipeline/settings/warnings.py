"""When a warning about a day is shown in the Dagster UI. These limits change no result and stop nothing."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings

from imgpipeline.settings.limits import SourceLimits, checked_limits


class WarningLimits(BaseSettings):
    """When a day looks wrong although nothing in it is."""

    warn_dead_letter_share: float = Field(
        0.05, ge=0, le=1, description="Warn if a larger share of a day's records are dead letters."
    )
    warn_dark_share: float = Field(0.8, ge=0, le=1, description="Warn if a larger share of a day's frames are dark.")
    dark_brightness: int = Field(
        16,
        ge=0,
        le=256,
        multiple_of=16,
        description="Frames with a mean luma below this count as dark: 0 is black, 255 white. A multiple of 16.",
    )
    warn_label_share: float = Field(
        0.25,
        ge=0,
        le=1,
        description="Warn if a label was counted less often than this share of its mean over the previous seven days.",
    )
    source_silent_s: Annotated[str, AfterValidator(lambda text: checked_limits(text, "seconds"))] = Field(
        "900",
        description="A source counts as silent after this many seconds without a record; `off` for never. For single "
        "sources: `900,gate=60,uploads=off`.",
    )

    @property
    def silence_limits(self) -> SourceLimits:
        """After how many seconds without a frame or notice a source counts as silent."""
        return SourceLimits.parse(self.source_silent_s)
