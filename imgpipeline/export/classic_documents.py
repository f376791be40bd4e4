"""Writes one JSON document for each processed frame, as the classic OpenCV consumer stores it: `metadata/NAME.json`.

NAME is the name of the image's file without its ending. The first picture of a name has that document; another picture
of the same name, in another folder or with another ending, has `NAME@HASH.json` with the hash of its path. The document
of a picture that was processed several times is the latest. Imported frames have none: their own program wrote theirs.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import tzinfo
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any

from imgpipeline.contracts.keys import is_import, safe_name
from imgpipeline.contracts.messages import public_path
from imgpipeline.contracts.outcomes import Frame, FrameStatus
from imgpipeline.contracts.times import find_timezone
from imgpipeline.ledger.checkpoint import Checkpoint, FollowerObject
from imgpipeline.ledger.follow import LostCheckpointError, follow
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.objectstore.client import open_target
from imgpipeline.objectstore.parallel import map_ahead
from imgpipeline.settings import Settings

_WRITERS, _AHEAD = 16, 64
_BATCH_SEGMENTS = 64
_MOST_BYTES = 2**26


@dataclass(slots=True)
class ClassicDocuments:
    """An export to one folder or prefix, which continues after the last call for this target."""

    store: ObjectStore
    settings: Settings
    """The time zone of the documents' times, and the credentials of the target."""
    target: str
    """A folder, created if missing, or `s3://bucket/prefix`."""
    force: bool = False
    """Whether the first call begins at the start of the ledger."""
    counts: Counter[str] = field(default_factory=Counter)
    """Documents that were `written`, documents that were `unchanged` (there with the same content, or with a later one
    of the same picture), and frames `without_detector` (gated, or without an image path), which have no document."""

    def export(self) -> Counter[str]:
        """Writes the documents of all frames after the last checkpoint, and returns the counts of all calls.

        Raises:
            ConfigurationError: The target cannot be written.
            LedgerError: A segment cannot be read; everything before it is written.
            TransientError: The store does not answer.
        """
        documents = open_target(self.settings, self.target)
        name = f"classic-documents-{sha256(documents.url.encode()).hexdigest()[:16]}"
        saved = FollowerObject(self.store, name, _MOST_BYTES)
        begin = saved.load(lambda text: Checkpoint.from_json(json.loads(text))) or Checkpoint()
        try:
            self._follow(documents, Checkpoint() if self.force else begin, saved)
        except LostCheckpointError:  # another ledger: its documents are compared with those that are there
            self._follow(documents, Checkpoint(), saved)
        self.force = False
        return self.counts

    def _follow(self, documents: ObjectStore, checkpoint: Checkpoint, saved: FollowerObject) -> None:
        for batch in follow(self.store, checkpoint, batch_segments=_BATCH_SEGMENTS):
            own = [outcome for chain, outcome in batch.outcomes() if not is_import(chain)]
            self._write_all(documents, [outcome for outcome in own if isinstance(outcome, Frame)])
            saved.save(json.dumps(batch.checkpoint.to_json()).encode())

    def _write_all(self, documents: ObjectStore, frames: Iterable[Frame]) -> None:
        latest: dict[str, Frame] = {}
        for frame in frames:
            if frame.status is FrameStatus.PROCESSED and frame.source_image_path:
                latest[frame.source_image_path] = frame
            else:
                self.counts["without_detector"] += 1
        zone = find_timezone(self.settings.timezone)
        # In order, so that the first picture of a name gets it, whatever runs at the same time.
        names: dict[str, list[dict[str, Any]]] = {}
        for frame in latest.values():
            document = classic_document(frame, store_url=self.store.url, zone=zone)
            names.setdefault(PurePosixPath(document["source_image_path"]).stem, []).append(document)
        for done in map_ahead(lambda item: _write(documents, *item), names.items(), workers=_WRITERS, ahead=_AHEAD):
            self.counts.update(done)


def _write(documents: ObjectStore, name: str, of_name: Iterable[dict[str, Any]]) -> list[str]:
    """Writes the documents of pictures of one name, and returns what was done with each."""
    done = []
    for document in of_name:
        digest = sha256(document["source_image_path"].encode()).hexdigest()[:16]
        own, beside = f"{safe_name(name)}.json", f"{safe_name(name)}@{digest}.json"
        done.append(_write_one(documents, own, document) or _write_one(documents, beside, document) or "unchanged")
    return done


def _write_one(documents: ObjectStore, key: str, document: dict[str, Any]) -> str | None:
    """Writes a document unless a later one of the same picture is there.

    Returns:
        `written` or `unchanged`; None if the key belongs to another picture, or to another program.
    """
    data = json.dumps(document, indent=2).encode()
    if documents.create(key, data):
        return "written"
    try:
        there = documents.get(key)
        old = json.loads(there)
        is_same_picture = old["source_image_path"] == document["source_image_path"]
        is_later = old["source_kafka_offset"] != document["source_kafka_offset"] and (
            old["processing_timestamp"] > document["processing_timestamp"]
        )
    except (ObjectMissingError, ValueError, KeyError, TypeError):
        return None
    if not is_same_picture:
        return None
    if is_later or there == data:
        return "unchanged"
    documents.put(key, data)
    return "written"


def classic_document(frame: Frame, *, store_url: str, zone: tzinfo) -> dict[str, Any]:
    """Returns the document of a processed frame, with its fields in the classic order.

    Detections without a box, which only imports have, are left out.

    Args:
        store_url: URL of the store of the frame's image.
        zone: Time zone of `processing_timestamp`, which has no offset.
    """
    processed = frame.processing_timestamp or frame.timestamp
    return {
        "source_image_path": public_path(frame.source_image_path, store_url),
        "source_kafka_offset": frame.offset,
        "source_kafka_partition": frame.partition,
        "processing_timestamp": processed.astimezone(zone).replace(tzinfo=None).isoformat(),
        "image_width": frame.image_width,
        "image_height": frame.image_height,
        "model_used": frame.model_used,
        "confidence_threshold": frame.confidence_threshold,
        "nms_threshold": frame.nms_threshold,
        "detections": [
            {
                "label": found.label,
                "class_id": found.class_id,
                "confidence": round(found.confidence, 6),
                "box": [int(side) for side in found.box_xywh],
            }
            for found in frame.detections
            if found.box_xywh is not None
        ],
    }
