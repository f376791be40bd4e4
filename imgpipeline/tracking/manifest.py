"""What the stored tables of a day's tracks say of themselves."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.lake.build.summary_inputs import stored_key
from imgpipeline.lake.schema.tracks import STORED_TRACK_TABLES
from imgpipeline.lake.storage.manifest import StoredObject, read_object
from imgpipeline.objectstore import ObjectStore


@dataclass(frozen=True, slots=True)
class TracksManifest:
    """What one table of a day's tracks was made of, and how."""

    table: str
    """Name of the table."""
    day: date
    """UTC day."""
    made_by: str
    """Recipe: hash of columns, queries and all settings, 16 hexadecimal digits."""
    made_of: Mapping[str, str]
    """Versions (e-tags) of the day's tables, and hashes of what was read of the neighbouring days."""
    followed_by: str
    """Hash of what slices depend on apart from their detections: parameters, class groups and library."""
    library: str
    """The tracking library with its version."""
    parameters: Mapping[str, str | float]
    """Settings, by name."""
    frame_rates: Mapping[str, float]
    """Median observed frame rate of each source, frames a second."""
    rows: int
    """Rows of the table."""
    content: str
    """Hash of the rows."""
    built_at: datetime
    """When it was made, UTC."""

    def to_json(self) -> str:
        """Returns the manifest as the footer holds it."""
        return json.dumps(
            {
                "table": self.table, "day": self.day.isoformat(), "made_by": self.made_by,
                "made_of": dict(self.made_of), "followed_by": self.followed_by, "library": self.library,
                "parameters": dict(self.parameters), "frame_rates": dict(self.frame_rates), "rows": self.rows,
                "content": self.content, "built_at": format_time(self.built_at),
            },
            ensure_ascii=False,
        )  # fmt: skip

    @classmethod
    def from_json(cls, text: str | bytes) -> "TracksManifest":
        """Reads what `to_json` wrote; raises KeyError, TypeError or ValueError if it is something else."""
        data = json.loads(text)
        return cls(
            table=data["table"], day=date.fromisoformat(data["day"]), made_by=data["made_by"], made_of=data["made_of"],
            followed_by=data["followed_by"], library=data["library"], parameters=data["parameters"],
            frame_rates=data["frame_rates"], rows=data["rows"], content=data["content"],
            built_at=parse_time(data["built_at"]),
        )  # fmt: skip


StoredTracks = StoredObject[TracksManifest]
"""One stored table of tracks."""


def read_tracks(store: ObjectStore, day: date) -> dict[str, StoredTracks | None]:
    """Returns what is stored of a day's tracks, by key in the order in which it is put; raises DamagedObjectError."""
    keys = [stored_key(table.name, day) for table in STORED_TRACK_TABLES]
    return {key: read_object(store, key, TracksManifest.from_json) for key in keys}
