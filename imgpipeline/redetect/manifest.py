"""The manifest of a redetection: its frames, model, thresholds and outcomes. Both objects have it in their footers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from typing import TYPE_CHECKING

from imgpipeline.contracts.keys import redetection_key
from imgpipeline.lake.schema.redetections import REDETECTION_SCHEMA_VERSION
from imgpipeline.lake.storage.manifest import BaseManifest, StoredObject, read_object
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

if TYPE_CHECKING:
    from imgpipeline.vision.detector import Detector

FRAMES, DETECTIONS = "frames", "detections"
"""Names of the two objects of a redetection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedetectionManifest(BaseManifest):
    """The inputs and outcomes of one redetection.

    `rows` counts its detections, and `content` is a hash of the rows of both objects, which is the version of each.
    """

    model: str
    """The choice, such as `demo@0.3`."""
    model_used: str
    model_sha256: str
    confidence_threshold: float
    nms_threshold: float
    """IoU above which the weaker of two boxes was dropped."""
    frames: int
    """Frames of the day: as many as there are outcomes."""
    processed: int
    gated: int
    """Frames that were left out, as in live detection."""
    failed: Mapping[str, int]
    """Frames whose image is no longer available, by code."""
    precision: str | None = None
    """What the model computed in, such as `bf16`; None for 32-bit floats."""


Stored = Mapping[str, StoredObject[RedetectionManifest] | None]
"""The stored objects by key, `frames` first; None if one is missing."""


def read_redetection(store: ObjectStore, model: str, day: date) -> Stored:
    """Returns both objects of a redetection; raises DamagedObjectError."""
    keys = [redetection_key(model, day, name) for name in (FRAMES, DETECTIONS)]
    return {key: read_object(store, key, RedetectionManifest) for key in keys}


def whole(stored: Stored) -> RedetectionManifest | None:
    """Returns the common manifest of both objects; None if one is missing or they are from different builds."""
    frames, detections = (each.manifest if each else None for each in stored.values())
    return frames if frames is not None and frames == detections else None


def recipe_of(detector: "Detector", settings: Settings) -> str:
    """Returns a hash of everything that affects the detections in an image, 16 hexadecimal digits."""
    spec = detector.spec
    parts = (REDETECTION_SCHEMA_VERSION, detector.model_name, detector.model_sha256, spec.decoder, spec.labels,
             spec.preprocessing, detector.confidence_threshold, detector.nms_threshold, detector.nms_per_class,
             detector.precision, detector.integer_boxes, settings.max_image_bytes, settings.max_image_pixels,
             settings.reduced_decoding)  # fmt: skip
    return sha256(repr(parts).encode()).hexdigest()[:16]
