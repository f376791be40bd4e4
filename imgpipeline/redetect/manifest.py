"""The manifest of a redetection: its frames, model, thresholds and outcomes. Both objects have it in their footers."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from hashlib import sha256
from typing import Any

from imgpipeline.contracts.keys import redetection_key
from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.lake.schema.redetections import REDETECTION_SCHEMA_VERSION
from imgpipeline.lake.storage.manifest import StoredObject, read_object
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.vision.detector import Detector

FRAMES, DETECTIONS = "frames", "detections"
"""Names of the two objects of a redetection."""


@dataclass(frozen=True, slots=True)
class RedetectionManifest:
    """The inputs and outcomes of one redetection."""

    model: str
    """The choice, such as `demo@0.3`."""
    day: date
    """UTC day."""
    made_by: str
    """The recipe, 16 hexadecimal digits."""
    made_of: str
    """Version of the day's table `frames`."""
    model_used: str
    model_sha256: str
    """SHA-256 of its file."""
    confidence_threshold: float
    """Detections have a confidence above this."""
    nms_threshold: float
    """IoU above which the weaker of two boxes was dropped."""
    frames: int
    """Frames of the day: as many as there are outcomes."""
    processed: int
    """Frames that the model processed."""
    gated: int
    """Frames that were left out, as in live detection."""
    failed: Mapping[str, int]
    """Frames whose image is no longer available, by code."""
    detections: int
    content: str
    """Hash of the rows of both objects, which is the version of each."""
    built_at: datetime
    """Build time, UTC."""
    precision: str | None = None
    """What the model computed in, such as `bf16`; None for 32-bit floats."""

    def to_json(self) -> str:
        """Returns the document of the footers."""
        changed = {"day": self.day.isoformat(), "built_at": format_time(self.built_at), "failed": dict(self.failed)}
        return json.dumps(asdict(self) | changed, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "RedetectionManifest":
        """Reads a document of `to_json`; raises KeyError, TypeError or ValueError for anything else."""
        data: dict[str, Any] = json.loads(text)
        changed = {"day": date.fromisoformat(data["day"]), "built_at": parse_time(data["built_at"])}
        return cls(**data | changed)


Stored = Mapping[str, StoredObject[RedetectionManifest] | None]
"""The stored objects by key, `frames` first; None if one is missing."""


def read_redetection(store: ObjectStore, model: str, day: date) -> Stored:
    """Returns both objects of a redetection; raises DamagedObjectError."""
    keys = [redetection_key(model, day, name) for name in (FRAMES, DETECTIONS)]
    return {key: read_object(store, key, RedetectionManifest.from_json) for key in keys}


def whole(stored: Stored) -> RedetectionManifest | None:
    """Returns the common manifest of both objects; None if one is missing or they are from different builds."""
    frames, detections = (each.manifest if each else None for each in stored.values())
    return frames if frames is not None and frames == detections else None


def recipe_of(detector: Detector, settings: Settings) -> str:
    """Returns a hash of everything that affects the detections in an image, 16 hexadecimal digits."""
    spec = detector.spec
    parts = (REDETECTION_SCHEMA_VERSION, detector.model_name, detector.model_sha256, spec.decoder, spec.labels,
             spec.preprocessing, detector.confidence_threshold, detector.nms_threshold, detector.nms_per_class,
             detector.precision, detector.integer_boxes, settings.max_image_bytes, settings.max_image_pixels,
             settings.reduced_decoding)  # fmt: skip
    return sha256(repr(parts).encode()).hexdigest()[:16]
