"""The answer of `explain`: a number with its detections, frames and segments, and its JSON."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from imgpipeline.contracts.keys import ChainId, segment_key
from imgpipeline.lake.storage.manifest import Manifest
from imgpipeline.ledger import Segment
from imgpipeline.objectstore.deleted_images import DeletedImages


@dataclass(frozen=True, slots=True)
class NumberId:
    """Which number of which summary."""

    day: date
    """UTC day."""
    hour: int | None
    """Hour of the day (UTC), 0 to 23: a number of `label_counts`; None for the whole day: one of `label_totals`."""
    label: str
    """Class name."""
    source: str | None = None
    """The camera, video or folder; None: all of them."""

    @property
    def summary(self) -> str:
        """Name of the summary that has it."""
        return "label_totals" if self.hour is None else "label_counts"

    def __str__(self) -> str:
        return f"{self.label}{f' of {self.source}' if self.source else ''} on {self.time}"

    @property
    def time(self) -> str:
        """The time that it is about, such as `2026-01-09 from 14:00 to 15:00 UTC`."""
        return f"{self.day}" + ("" if self.hour is None else f" from {self.hour:02d}:00 to {self.hour + 1:02d}:00 UTC")


@dataclass(frozen=True, slots=True)
class CountedDetection:
    """One detection that a number counts, with where it comes from."""

    timestamp: datetime
    """The frame's own time, UTC."""
    source: str
    """The camera, video or folder."""
    frame_id: str
    """The frame it was found in."""
    frame_number: int | None
    """The frame's number within the source, if it was announced."""
    detection_number: int
    """Its place within the frame, from 0."""
    label: str
    """Class name."""
    confidence: float
    """Score, 0 to 1."""
    box_xywh: tuple[float, float, float, float] | None
    """Left, top, width, height in pixels of the original image; None if an import does not know it."""
    source_image_path: str
    """The stored picture: `s3://bucket/key`, or a key below the store's prefix."""
    chain: ChainId
    """The chain that has the frame: topic, topic id, partition."""
    offset: int
    """Kafka offset of the frame's announcement."""
    processing_timestamp: datetime | None
    """When the frame's outcome was ready, UTC."""
    model_used: str
    """Name of the model in the registry; empty if an import does not know it."""
    model_sha256: str
    """SHA-256 of the model file; empty if an import does not know it."""
    confidence_threshold: float | None
    """The threshold that the frame was detected with."""
    nms_threshold: float | None
    """Overlap (IoU) above which the weaker of two boxes was dropped."""
    replay_of: str | None
    """The dead letter that the frame was announced again for."""
    segment: str
    """Key of the segment that holds the frame; it was read, and the detection was found in it."""


@dataclass(frozen=True, slots=True)
class SegmentBehind:
    """One segment that holds some of the detections."""

    key: str
    """Its object."""
    chain: ChainId
    """Its chain."""
    start: int
    """First offset it covers."""
    end: int
    """First offset behind it."""
    detections: int
    """How many of the detections it holds."""
    model_used: str
    """Name of the model; empty for imports."""
    model_sha256: str
    """SHA-256 of the model file; empty for imports."""
    settings_hash: str
    """Hash of the settings that change results."""
    run_id: str
    """The run that wrote it."""
    writer_id: str
    """The attempt of that run which wrote it."""
    created_at: datetime
    """When it was made, UTC."""

    @classmethod
    def of(cls, segment: Segment, detections: int) -> "SegmentBehind":
        """Describes a segment that holds this many of the detections."""
        header, made = segment.header, segment.header.provenance
        return cls(
            key=segment_key(header.chain, header.start),
            chain=header.chain,
            start=header.start,
            end=header.end,
            detections=detections,
            model_used=made.model_name,
            model_sha256=made.model_sha256,
            settings_hash=made.settings_hash,
            run_id=made.run_id,
            writer_id=header.writer_id,
            created_at=header.created_at,
        )


@dataclass(frozen=True, slots=True)
class StoredNumber:
    """The number in the stored summary, and what made that."""

    key: str
    """The summary's object."""
    count: int
    """What it says; 0 if it has no such row."""
    manifest: Manifest
    """What the object says of itself: ends, recipe, time of building, versions of its inputs."""
    is_by_present_recipe: bool
    """Whether today's code, SQL and settings would make it in the same way."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """One number with its detections, frames and segments."""

    number: NumberId
    """Which number."""
    count: int
    """The number as it is now: stored tables and the segments behind them. It was compared with `detections`."""
    least_confidence: float
    """Detections below this confidence are not counted (`IMGPIPELINE_SUMMARY_THRESHOLD`)."""
    not_counted: int
    """How many detections of this label and time are below that."""
    detections: tuple[CountedDetection, ...]
    """Every detection that is counted, by time."""
    segments: tuple[SegmentBehind, ...]
    """The segments that hold them, by chain and offset."""
    stored: StoredNumber | None
    """The stored summary; None if the day has none yet."""
    deleted_images: tuple[DeletedImages, ...] = ()
    """The sources and days of the detections of which image retention has deleted images."""

    @property
    def frames(self) -> int:
        """In how many frames they are."""
        return len({found.frame_id for found in self.detections})

    @property
    def sources(self) -> Mapping[str, int]:
        """How many come from which source, the most first."""
        return dict(Counter(found.source for found in self.detections).most_common())

    @property
    def models(self) -> Mapping[tuple[str, str, float | None], int]:
        """How many were made by which model (name, sha256) above which threshold, the most first."""
        made = ((found.model_used, found.model_sha256, found.confidence_threshold) for found in self.detections)
        return dict(Counter(made).most_common())

    def to_json(self) -> dict[str, Any]:
        """Returns the document of `--json`."""
        return {
            "summary": self.number.summary,
            "day": self.number.day,
            "hour": self.number.hour,
            "label": self.number.label,
            "source": self.number.source,
            "count": self.count,
            "frames": self.frames,
            "sources": self.sources,
            "models": [
                {"model_used": name, "model_sha256": sha256, "confidence_threshold": threshold, "detections": count}
                for (name, sha256, threshold), count in self.models.items()
            ],
            "least_confidence": self.least_confidence,
            "not_counted": self.not_counted,
            "stored": self.stored and _stored_json(self.stored),
            "deleted_images": [
                {name: getattr(each, name) for name in ("source", "day", "deleted_at", "images")}
                for each in self.deleted_images
            ],
            "segments": [_flat(segment) for segment in self.segments],
            "detections": [_flat(found) for found in self.detections],
        }


def _stored_json(stored: StoredNumber) -> dict[str, Any]:
    manifest = stored.manifest
    ends = [{"topic": c.topic, "topic_id": c.topic_id, "partition": c.partition, "end": end} for c, end in
            sorted(manifest.ends.items())]  # fmt: skip
    return {
        "key": stored.key,
        "count": stored.count,
        "built_at": manifest.built_at,
        "recipe": manifest.made_by,
        "is_by_present_recipe": stored.is_by_present_recipe,
        "made_of": manifest.made_of,
        "ends": ends,
    }


def _flat(value: CountedDetection | SegmentBehind) -> dict[str, Any]:
    """Returns the fields with the chain's own in its place."""
    flat: dict[str, Any] = {}
    for name in value.__dataclass_fields__:
        field = getattr(value, name)
        if isinstance(field, ChainId):
            flat |= {"topic": field.topic, "topic_id": field.topic_id, "partition": field.partition}
        else:
            flat[name] = field
    return flat
