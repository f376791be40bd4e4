"""Traces a number of a label summary back to segments: number → detections → frames → offsets → segments.

Also traces one frame. Raises an error if the detections do not add up to the number, or if a segment does not hold what
the tables show.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from imgpipeline.contracts.keys import ChainId, segment_key, summary_key
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.contracts.text import counted, plain
from imgpipeline.errors import ConfigurationError, LedgerError, PermanentError
from imgpipeline.lake.days.summaries import recipe
from imgpipeline.lake.days.summary_inputs import open_tables
from imgpipeline.lake.query.days import name_nearest_days
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.lake.sessions.tables import COUNTED_DETECTIONS
from imgpipeline.lake.storage.engine import quoted
from imgpipeline.lake.storage.manifest import Manifest
from imgpipeline.ledger.days import known_days
from imgpipeline.ledger.reading import segments_holding
from imgpipeline.ledger.segment import Segment
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.images import DeletedImages, deleted_of, own_image_keys
from imgpipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class NumberId:
    """Identifies a number of a label summary."""

    day: date
    """UTC day."""
    hour: int | None
    """Hour of the day (UTC), 0 to 23: a number of `label_counts`; None for the whole day: one of `label_totals`."""
    label: str
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
    frame_id: str
    frame_number: int | None
    """The frame's number within the source; None if it was not announced."""
    detection_number: int
    """Number within the frame, from 0."""
    label: str
    confidence: float
    """Score, 0 to 1."""
    box_xywh: tuple[float, float, float, float] | None
    """Left, top, width, height in pixels of the original image; None if an import lacks it."""
    source_image_path: str
    """The image: `s3://bucket/key`, or a key below the store's prefix."""
    chain: ChainId
    offset: int
    processing_timestamp: datetime | None
    """When the frame's outcome was ready, UTC."""
    model_used: str
    """Name of the model in the registry; empty if an import lacks it."""
    model_sha256: str
    """SHA-256 of the model file; empty if an import lacks it."""
    confidence_threshold: float | None
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
    chain: ChainId
    start: int
    """First offset it covers."""
    end: int
    """First offset after it."""
    detections: int
    model_used: str
    """Name of the model; empty for imports."""
    model_sha256: str
    """SHA-256 of the model file; empty for imports."""
    settings_hash: str
    run_id: str
    writer_id: str
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
    count: int
    """The number now, from stored tables and newer segments; equals the number of `detections`."""
    least_confidence: float
    """Detections below this confidence are not counted (`IMGPIPELINE_SUMMARY_THRESHOLD`)."""
    not_counted: int
    """Number of detections of this label and time below it."""
    detections: tuple[CountedDetection, ...]
    segments: tuple[TracedSegment, ...]
    """By chain and offset."""
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
        """Returns the document of `--json`: the fields, and the sums over the detections."""
        models = [
            {"model_used": name, "model_sha256": sha256, "confidence_threshold": threshold, "detections": count}
            for (name, sha256, threshold), count in self.models.items()
        ]
        sums = {"summary": self.number.summary, "frames": self.frames, "sources": self.sources, "models": models}
        document: dict[str, Any] = plain(self)
        return {**document.pop("number"), **sums, **document}


Progress = Callable[[int, int], None]
_COLUMNS = (
    '"timestamp", source, frame_id, frame_number, detection_number, label, confidence, x, y, width, height, '
    "source_image_path, source_kafka_topic, source_kafka_topic_id, source_kafka_partition, source_kafka_offset, "
    "processing_timestamp, model_used, model_sha256, confidence_threshold, nms_threshold, replay_of"
)
_CHAIN = ("source_kafka_topic", "source_kafka_topic_id", "source_kafka_partition")
_AUDIT = "run `imgpipeline audit --full`: it names every day, table and segment that disagrees"
_NUMBERS_OF_FRAME = """
SELECT label, hour("timestamp") AS hour, source, count(*)
FROM detections
WHERE day = DATE '{day}' AND frame_id = {frame} AND confidence >= coalesce(getvariable('summary_threshold'), 0)
GROUP BY ALL ORDER BY label
"""


def explain(
    lake: LakeSession,
    store: ObjectStore,
    number: NumberId,
    settings: Settings,
    *,
    progress: Progress | None = None,
) -> Explanation:
    """Traces one number.

    Args:
        lake: A session with the number's day, opened with the same settings.
        progress: Called with the number of detections found in their segments, and of all detections.

    Returns:
        The number with its detections, frames and segments.

    Raises:
        ConfigurationError: There is no such number; the message names existing ones.
        LedgerError: Number, detections and segments disagree, or a segment cannot be read.
    """
    least = settings.summary_threshold
    count = _count(lake, number, store, least)
    answer = lake.query(f"SELECT {_COLUMNS} FROM {_counted(number)} ORDER BY ALL")  # noqa: S608 - own SQL, text quoted
    found = [_detection(dict(zip(answer.columns, row, strict=True))) for row in answer.rows]
    if len(found) != count:
        raise LedgerError(
            f"{number.summary} says {count} {number}, but its detections are {len(found)}.", next_step=_AUDIT
        )
    segments, keys = _segments(store, found, progress or (lambda *_: None))
    traced = tuple(replace(each, segment=keys[each.chain, each.offset]) for each in found)
    stored = _stored(store, number, settings)
    paths = {each.source_image_path for each in traced}
    deleted = deleted_of(store, own_image_keys(paths, settings.store_url))
    explanation = Explanation(number, count, least, _below(lake, number, least), traced, segments, stored, deleted)
    _check_stored(lake, explanation)
    return explanation


def _counted(number: NumberId) -> str:
    hour = "NULL" if number.hour is None else str(number.hour)
    source = "NULL" if number.source is None else quoted(number.source)
    return f"{COUNTED_DETECTIONS}(DATE '{number.day}', {hour}, {quoted(number.label)}, {source})"


def _in_time(number: NumberId) -> str:
    hour = "" if number.hour is None else f' AND hour("timestamp") = {number.hour}'
    return f"day = DATE '{number.day}'{hour}{_of_source(number)}"


def _of_source(number: NumberId) -> str:
    return "" if number.source is None else f" AND source = {quoted(number.source)}"


def _rows_of(number: NumberId) -> str:
    hour = "" if number.hour is None else f" AND hour(hour) = {number.hour}"
    chosen = f"day = DATE '{number.day}'{hour} AND label = {quoted(number.label)}{_of_source(number)}"
    return f"FROM {number.summary} WHERE {chosen}"


def _count(lake: LakeSession, number: NumberId, store: ObjectStore, least: float) -> int:
    rows = lake.query(f"SELECT source, count {_rows_of(number)}").rows
    sources = {source for source, _ in rows}
    if len(rows) > len(sources):
        raise LedgerError(
            f"{number.summary} has {len(rows)} rows for {number}, expected one for each of {len(sources)} sources.",
            next_step=_AUDIT,
        )
    if not rows:
        raise _no_number(lake, number, store, least)
    return sum(int(count) for _, count in rows)


def _below(lake: LakeSession, number: NumberId, least: float) -> int:
    condition = f"{_in_time(number)} AND label = {quoted(number.label)} AND confidence < {least!r}"
    return int(lake.query(f"SELECT count(*) FROM detections WHERE {condition}").rows[0][0])  # noqa: S608 - text quoted


def _detection(row: dict[str, Any]) -> CountedDetection:
    chain, offset = ChainId(*(row.pop(name) for name in _CHAIN)), row.pop("source_kafka_offset")
    x, *rest = (row.pop(name) for name in ("x", "y", "width", "height"))
    if row["model_used"] is None:
        raise LedgerError(
            f"The frame {row['frame_id']} at {chain.topic}/{chain.partition}/{offset} has detections, but no row in "
            "`frames`.",
            next_step=_AUDIT,
        )
    return CountedDetection(**row, box_xywh=None if x is None else (x, *rest), chain=chain, offset=offset, segment="")


def _segments(
    store: ObjectStore, found: Iterable[CountedDetection], progress: Progress
) -> tuple[tuple[TracedSegment, ...], dict[tuple[ChainId, int], str]]:
    """Finds each detection in its segment. Returns the segments, and the key of the segment of each offset."""
    by_place: dict[ChainId, dict[int, list[CountedDetection]]] = defaultdict(lambda: defaultdict(list))
    for each in found:
        by_place[each.chain][each.offset].append(each)
    total = sum(len(several) for offsets in by_place.values() for several in offsets.values())
    segments: list[TracedSegment] = []
    keys: dict[tuple[ChainId, int], str] = {}
    done = 0
    for chain, offsets in sorted(by_place.items()):
        for segment, held in segments_holding(store, chain, offsets):
            expected = [each for offset in held for each in offsets[offset]]
            _check_segment(segment, expected)
            segments.append(TracedSegment.of(segment, len(expected)))
            keys |= {(chain, offset): segments[-1].key for offset in held}
            done += len(expected)
            progress(done, total)
    return tuple(segments), keys


def _check_segment(segment: Segment, expected: Iterable[CountedDetection]) -> None:
    """Raises LedgerError if the segment does not hold a detection as in the tables."""
    expected = list(expected)
    documents = _documents(segment, {each.offset for each in expected}, expected[0].label)
    for each in expected:
        document = documents.get(each.offset, {"frame_id": "", "detections": []})
        there = document["detections"][each.detection_number : each.detection_number + 1]
        box = None if each.box_xywh is None else list(each.box_xywh)
        same = [{"label": d["label"], "confidence": d["confidence"], "box": d["box"]} for d in there]
        if document["frame_id"] != each.frame_id or same != [
            {"label": each.label, "confidence": each.confidence, "box": box}
        ]:
            header = segment.header
            raise LedgerError(
                f"{segment_key(header.chain, header.start)} does not hold the detection {each.detection_number} of the "
                f"frame {each.frame_id} at offset {each.offset} as the tables show it ({each.label} "
                f"{each.confidence}); it has {same[0] if same else 'none'}.",
                next_step=_AUDIT,
            )


def _documents(segment: Segment, offsets: set[int], label: str) -> dict[int, Mapping[str, Any]]:
    """Returns the metadata documents of some offsets. Parses only lines that contain the label."""
    needle = json.dumps(label, ensure_ascii=False).encode()
    lines = (json.loads(line) for line in segment.body.splitlines() if needle in line)
    frames = (line["frame"] for line in lines if "frame" in line)
    return {frame["source_kafka_offset"]: frame for frame in frames if frame["source_kafka_offset"] in offsets}


def _stored(store: ObjectStore, number: NumberId, settings: Settings) -> StoredNumber | None:
    name, memory = number.summary, settings.duckdb_memory
    with open_tables(store, (), number.day, optional=(name,), memory=memory) as opened:
        if name not in opened.manifests:
            return None
        count = opened.engine.value(f"SELECT coalesce(sum(count), 0)::BIGINT {_rows_of(number)}")
    manifest = opened.manifests[name]
    return StoredNumber(summary_key(name, number.day), count, manifest, manifest.made_by == recipe(name, settings))


def _check_stored(lake: LakeSession, explanation: Explanation) -> None:
    """Raises LedgerError if the stored number should be equal and is not."""
    stored, number = explanation.stored, explanation.number
    if stored is None or not stored.is_by_present_recipe or stored.count == explanation.count:
        return
    if not _differs_in_time(lake, number.day, stored.manifest.ends):
        raise LedgerError(
            f"{stored.key} says {stored.count} {number}, but there are {explanation.count} up to the same ends.",
            next_step=_AUDIT,
        )


def _differs_in_time(lake: LakeSession, day: date, ends: Mapping[ChainId, int]) -> bool:
    """Whether the session has a frame of the day after some ends, or these ends are after the session's."""
    rows = lake.query(
        "SELECT source_kafka_topic, source_kafka_topic_id, source_kafka_partition, max(source_kafka_offset) "  # noqa: S608 - a day
        f"FROM frames WHERE day = DATE '{day}' GROUP BY ALL"
    ).rows
    has_newer_segments = any(last >= ends.get(ChainId(*chain), 0) for *chain, last in rows)
    return has_newer_segments or any(end > lake.snapshot.ends.get(chain, 0) for chain, end in ends.items())


def _no_number(lake: LakeSession, number: NumberId, store: ObjectStore, least: float) -> PermanentError:
    """Returns the error for a number that does not exist; it names existing ones."""
    below = _below(lake, number, least)
    if below:
        return ConfigurationError(
            f"Nothing is counted: {counted(below, 'detection')} of {number}, all with a confidence below {least}.",
            next_step="lower IMGPIPELINE_SUMMARY_THRESHOLD to count them",
        )
    labels = _occurring(lake, "label", _in_time(number))
    if labels:
        named = ", ".join(f"{label} {count}" for label, count in labels.items())
        return ConfigurationError(f"There is no {number}.", next_step=f"take one of the labels of that time: {named}")
    sources = _occurring(lake, "source", f"{_in_time(replace(number, source=None))} AND label = {quoted(number.label)}")
    if sources and number.source is not None:
        named = ", ".join(f"{source} {count}" for source, count in sources.items())
        return ConfigurationError(f"There is no {number}.", next_step=f"take one of the sources with it: {named}")
    hours = _occurring(lake, 'hour("timestamp")', f"day = DATE '{number.day}'{_of_source(number)}")
    if hours:
        named = ", ".join(map(str, sorted(hours)))
        return ConfigurationError(
            f"Nothing was found on {number.time}.", next_step=f"take one of the hours with detections: {named}"
        )
    frames = lake.query(f"SELECT count(*) FROM frames WHERE day = DATE '{number.day}'").rows[0][0]  # noqa: S608 - a day
    if frames:
        return ConfigurationError(f"Nothing was found on {number.day}, in {counted(frames, 'frame')}.")
    return ConfigurationError(
        f"Neither tables nor ledger have a frame of {number.day}.",
        next_step=f"take one of the days that the ledger knows: {name_nearest_days(known_days(store), number.day)}",
    )


def _occurring(lake: LakeSession, what: str, where: str) -> Mapping[Any, int]:
    rows = lake.query(f"SELECT {what}, count(*) FROM detections WHERE {where} GROUP BY 1 ORDER BY 2 DESC, 1").rows  # noqa: S608 - own SQL
    return Counter(dict(rows))


@dataclass(frozen=True, slots=True)
class CountingNumber:
    """A number of `label_counts` that includes detections of a frame."""

    label: str
    hour: int
    """Hour of the day (UTC), 0 to 23."""
    source: str
    of_frame: int
    count: int


@dataclass(frozen=True, slots=True)
class FrameLineage:
    """The origin of a frame."""

    chain: ChainId
    offset: int
    segment: TracedSegment


def trace_frame(store: ObjectStore, frame: Mapping[str, Any], detections: int) -> FrameLineage:
    """Finds the segment that holds a frame, and compares it with the tables.

    Args:
        frame: The frame's row of the table `frames`.
        detections: Number of its detections in the tables.

    Raises:
        LedgerError: No segment holds the frame as in the tables.
        TransientError: The store does not answer.
    """
    chain, offset = ChainId(*(frame[name] for name in _CHAIN)), int(frame["source_kafka_offset"])
    [(segment, _)] = segments_holding(store, chain, [offset])
    traced = TracedSegment.of(segment, detections)
    frames = (one for one in segment.outcomes() if isinstance(one, Frame))
    held = next((one for one in frames if one.offset == offset), None)
    if held is None or held.frame_id != frame["frame_id"] or len(held.detections) != detections:
        raise LedgerError(
            f"{traced.key} does not hold the frame {frame['frame_id']} at offset {offset} as the tables show it.",
            next_step=_AUDIT,
        )
    return FrameLineage(chain, offset, traced)


def numbers_of_day(lake: LakeSession, day: date) -> Mapping[tuple[str, str | None, int], int]:
    """Returns the numbers of `label_counts` of a UTC day, by label, source and UTC hour.

    Raises:
        PermanentError: This machine has too little memory or disk.
    """
    rows = lake.query(f"SELECT label, source, hour, count FROM label_counts WHERE day = DATE '{day}'").rows  # noqa: S608 - a date
    return {(label, source, at.hour): count for label, source, at, count in rows if isinstance(at, datetime)}


def numbers_counting(
    lake: LakeSession, day: date, frame_id: str, numbers: Mapping[tuple[str, str | None, int], int]
) -> tuple[CountingNumber, ...]:
    """Returns the numbers of `label_counts` that include detections of a frame, by label.

    Args:
        day: The frame's UTC day.
        numbers: The numbers of its day, from `numbers_of_day`.

    Raises:
        PermanentError: This machine has too little memory or disk.
    """
    rows = lake.query(_NUMBERS_OF_FRAME.format(day=day, frame=quoted(frame_id))).rows
    return tuple(
        CountingNumber(label, hour, source, of_frame, numbers[label, source, hour])
        for label, hour, source, of_frame in rows
    )
