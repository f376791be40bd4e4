"""Tables, summaries and queries, and when the Dagster UI shows a warning about a day or source."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings

from imgpipeline.settings.variables import SourceLimits, checked_limits


class TableSettings(BaseSettings):
    """Tables, summaries and queries."""

    summary_threshold: float = Field(
        0.0, ge=0, le=1, description="Summaries of labels exclude detections with a confidence below this."
    )
    nightly_at: str = Field(
        "01:30",
        pattern=r"^([01]\d|2[0-3]):[0-5]\d$",
        description="Time of `nightly_rebuild` (UTC), which builds yesterday for the last time and all outdated days.",
    )
    duckdb_memory: str | None = Field(None, pattern=r"(?i)^\d+(\.\d+)? ?[kmgt]i?b$", description="Memory limit of a "
    "build or query, at least `200MB`; beyond it, data spills to disk. Default: a quarter of the "
    "machine's memory.")  # fmt: skip
    table_object_bytes: int = Field(
        500_000_000,
        ge=1_000,
        le=5_000_000_000,
        description="A larger table is stored in several objects of at most about this size; see docs/tables.md.",
    )


class WarningLimits(BaseSettings):
    """Limits for warnings about a day or source. They change no result and stop nothing."""

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
        """Seconds without a frame or notice after which a source counts as silent."""
        return SourceLimits.parse(self.source_silent_s)
