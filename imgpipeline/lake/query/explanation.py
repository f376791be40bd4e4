"""The result of `explain`: a number with its detections, frames and segments, and its JSON."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from imgpipeline.contracts.keys import ChainId, segment_key
from imgpipeline.lake.storage.manifest import Manifest
from imgpipeline.ledger import Segment
from imgpipeline.objectstore.images import DeletedImages


@dataclass(frozen=True, slots=True)
class NumberId:
    """Identifies a number of a label summary."""

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
        """Name of the summary."""
        return "label_totals" if self.hour is None else "label_counts"

    def __str__(self) -> str:
        return f"{self.label}{f' of {self.source}' if self.source else ''} on {self.time}"

    @property
    def time(self) -> str:
        """Its time, such as `2026-01-09 from 14:00 to 15:00 UTC`."""
        return f"{self.day}" + ("" if self.hour is None else f" from {self.hour:02d}:00 to {self.hour + 1:02d}:00 UTC")


@dataclass(frozen=True, slots=True)
class CountedDetection:
    """One detection that a number counts, with its origin."""

    timestamp: datetime
    """The frame's own time, UTC."""
    source: str
    """The camera, video or folder."""
    frame_id: str
    """The frame it was found in."""
    frame_number: int | None
    """The frame's number within the source; None if it was not announced."""
    detection_number: int
    """Number within the frame, from 0."""
    label: str
    """Class name."""
    confidence: float
    """Score, 0 to 1."""
    box_xywh: tuple[float, float, float, float] | None
    """Left, top, width, height in pixels of the original image; None if an import lacks it."""
    source_image_path: str
    """The image: `s3://bucket/key`, or a key below the store's prefix."""
    chain: ChainId
    """The frame's chain: topic, topic id, partition."""
    offset: int
    """Kafka offset of the frame's announcement."""
    processing_timestamp: datetime | None
    """When the frame's outcome was ready, UTC."""
    model_used: str
    """Name of the model in the registry; empty if an import lacks it."""
    model_sha256: str
    """SHA-256 of the model file; empty if an import lacks it."""
    confidence_threshold: float | None
    """The confidence threshold of the detector."""
    nms_threshold: float | None
    """Overlap (IoU) above which the weaker of two boxes was dropped."""
    replay_of: str | None
    """The dead letter that the frame replays."""
    segment: str
    """Key of the segment in which the detection was found."""


@dataclass(frozen=True, slots=True)
class TracedSegment:
    """One segment that holds some of the detections."""

    key: str
    """Its object."""
    chain: ChainId
    start: int
    """First offset it covers."""
    end: int
    """First offset after it."""
    detections: int
    """Number of the detections in it."""
    model_used: str
    """Name of the model; empty for imports."""
    model_sha256: str
    """SHA-256 of the model file; empty for imports."""
    settings_hash: str
    """Hash of the settings that change results."""
    run_id: str
    """The run that wrote it."""
    writer_id: str
    """The attempt of the run that wrote it."""
    created_at: datetime
    """When it was made, UTC."""

    @classmethod
    def of(cls, segment: Segment, detections: int) -> "TracedSegment":
        """Describes a segment that holds some of the detections."""
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
    """The number in the stored summary, and the origin of the summary."""

    key: str
    """The summary's object."""
    count: int
    """The stored number; 0 if there is no such row."""
    manifest: Manifest
    """Its manifest: ends, recipe, time of the build, versions of its inputs."""
    is_by_present_recipe: bool
    """Whether its recipe is the current one."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """One number with its detections, frames and segments."""

    number: NumberId
    """The number's identity."""
    count: int
    """The number now, from stored tables and newer segments; equals the number of `detections`."""
    least_confidence: float
    """Detections below this confidence are not counted (`IMGPIPELINE_SUMMARY_THRESHOLD`)."""
    not_counted: int
    """Number of detections of this label and time below it."""
    detections: tuple[CountedDetection, ...]
    segments: tuple[TracedSegment, ...]
    """The segments of the detections, by chain and offset."""
    stored: StoredNumber | None
    """The stored summary; None if the day has none yet."""
    deleted_images: tuple[DeletedImages, ...] = ()
    """Sources and days of the detections whose images were deleted by image retention."""

    @property
    def frames(self) -> int:
        """Number of frames with the detections."""
        return len({found.frame_id for found in self.detections})

    @property
    def sources(self) -> Mapping[str, int]:
        """Number of detections by source, the most first."""
        return dict(Counter(found.source for found in self.detections).most_common())

    @property
    def models(self) -> Mapping[tuple[str, str, float | None], int]:
        """Number of detections by model (name, sha256, threshold), the most first."""
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


def _flat(value: CountedDetection | TracedSegment) -> dict[str, Any]:
    """Returns the fields, with those of the chain in its place."""
    flat: dict[str, Any] = {}
    for name in value.__dataclass_fields__:
        field = getattr(value, name)
        if isinstance(field, ChainId):
            flat |= {"topic": field.topic, "topic_id": field.topic_id, "partition": field.partition}
        else:
            flat[name] = field
    return flat
