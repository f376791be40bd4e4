"""How and when tables and summaries are built, and the limits of queries."""

from pydantic import Field
from pydantic_settings import BaseSettings


class TableSettings(BaseSettings):
    """Tables, summaries and queries."""

    summary_threshold: float = Field(
        0.0, ge=0, le=1, description="Summaries of labels exclude detections with a confidence below this."
    )
    nightly_at: str = Field(
        "01:30",
        pattern=r"^([01]\d|2[0-3]):[0-5]\d$",
        description="When yesterday gets its last build and outdated days are built (`nightly_rebuild`, UTC).",
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
