"""One dead letter in full: the reason, the record, the run that found it, and what to do next."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from imgpipeline.contracts.keys import ChainId, is_import, segment_key
from imgpipeline.contracts.outcomes import DeadLetter
from imgpipeline.contracts.records import Partition, RawRecord, RecordReference, parse_reference
from imgpipeline.errors import DeadLetterCode, ImgpipelineError
from imgpipeline.ledger import SegmentHeader
from imgpipeline.ledger.dead_letter_list import find_dead_letters
from imgpipeline.ledger.dead_letters import BuriedRecord, Progress, Wanted, locate_dead_letter, read_raw_record
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.sources.replay import present_chains, read_from_kafka

_ROW_BYTES = 16
_REPLAY = "`imgpipeline dead-letters replay`"
NEXT_STEPS = {
    DeadLetterCode.INVALID_MESSAGE: "fix the producer and announce the frame again; the message above names the field",
    DeadLetterCode.PATH_NOT_ALLOWED: "if the image may be read, add its location to "
    f"IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS, then {_REPLAY}",
    DeadLetterCode.TIMESTAMP_OUT_OF_RANGE: "fix the clock of the source; if the time is right, set "
    f"IMGPIPELINE_FIRST_DAY or IMGPIPELINE_MAX_FUTURE_S, then {_REPLAY}",
    DeadLetterCode.TOO_LARGE: "raise IMGPIPELINE_MAX_IMAGE_BYTES or IMGPIPELINE_MAX_MESSAGE_BYTES to accept it, "
    f"then {_REPLAY}",
    DeadLetterCode.OBJECT_NOT_FOUND: f"upload the image to the path above, then {_REPLAY}",
    DeadLetterCode.OBJECT_FORBIDDEN: f"let the store's user read the image, then {_REPLAY}",
    DeadLetterCode.EMPTY_OBJECT: f"upload the complete image again, then {_REPLAY}",
    DeadLetterCode.DECODE_FAILED: f"check the image and upload a complete one, then {_REPLAY}",
    DeadLetterCode.IMAGE_TOO_LARGE: f"raise IMGPIPELINE_MAX_IMAGE_PIXELS if memory allows, then {_REPLAY}",
    DeadLetterCode.HASH_MISMATCH: f"upload the image that was announced, then {_REPLAY}",
    DeadLetterCode.PROCESS_CRASHED: "keep the image and report the fault; once a release can read it, run "
    "`imgpipeline dead-letters replay --code PROCESS_CRASHED`",
    DeadLetterCode.BAD_ROW: "correct the row in a separate file, and import it under another --name",
}
"""What a person can do about each code."""


@dataclass(frozen=True, slots=True)
class LetterDetails:
    """All details of one dead letter."""

    buried: BuriedRecord
    """Result of its replays."""
    letter: DeadLetter
    """The dead letter."""
    segment: SegmentHeader
    """Header of the segment that contains it."""
    original: RawRecord | None
    """Its record; None if it no longer exists."""
    missing: str
    """Why there is no record."""

    @property
    def next_step(self) -> str:
        """What to do about it, for a person."""
        if is_import(self.buried.reference.chain):
            return NEXT_STEPS[DeadLetterCode.BAD_ROW]
        if self.buried.became is None:
            return NEXT_STEPS[self.letter.code]
        return f"nothing: it was announced again and is {self.buried.state.value} by {self.buried.became}"

    def to_json(self) -> dict[str, Any]:
        """Returns the document of `--json`."""
        provenance = self.segment.provenance
        return {
            **document(self.buried),
            **(self.original.to_json() if self.original else {}),
            "segment": segment_key(self.segment.chain, self.segment.start),
            "run_id": provenance.run_id,
            "model_used": provenance.model_name,
            "model_sha256": provenance.model_sha256,
            "processed_at": self.segment.created_at,
            "value_missing": self.missing or None,
            "next_step": self.next_step,
        }


def document(buried: BuriedRecord) -> dict[str, Any]:
    """Returns a dead letter and its state as one JSON object."""
    chain = buried.reference.chain
    where = {"topic": chain.topic, "topic_id": chain.topic_id, "partition": chain.partition}
    became = str(buried.became) if buried.became else None
    return where | buried.letter.to_json() | {"state": buried.state.value, "became": became}


def read_details(
    settings: Settings,
    store: ObjectStore,
    name: str,
    *,
    progress: Progress | None = None,
    present: Callable[[], Mapping[Partition, ChainId]] | None = None,
) -> LetterDetails:
    """Reads all details of one dead letter.

    Args:
        settings: The broker, which may still have a record that is not stored.
        store: The object store.
        name: `topic/partition/offset`, optionally followed by `@topic id`.
        progress: Called with the amount done and the total.
        present: Returns the current chain of each partition; None: asks the broker.

    Raises:
        ConfigurationError: There is no such dead letter.
        LedgerError: A segment cannot be read.
    """
    topic, topic_id, partition, offset = parse_reference(name)
    segment = locate_dead_letter(store, topic, topic_id, partition, offset)
    at = RecordReference(segment.header.chain, offset)
    [letter] = [o for o in segment.outcomes() if isinstance(o, DeadLetter) and o.offset == offset]
    found, _ = find_dead_letters(store, Wanted(letter.code, letter.day, letter.source), progress=progress)
    [buried] = [buried for buried in found if buried.reference == at]
    original, missing = None, ""
    try:
        original = read_raw_record(store, at.chain, letter) or read_from_kafka(
            settings, at, letter, present or (lambda: present_chains(settings, store))
        )
    except ImgpipelineError as error:
        missing = error.message
    return LetterDetails(buried, letter, segment.header, original, missing)


def as_text(raw: bytes) -> str | None:
    """Returns bytes as text if they are UTF-8 without control characters other than white space; otherwise None."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return text if all(c.isprintable() or c in "\n\r\t" for c in text) else None


def readable(raw: bytes, most_bytes: int) -> list[str]:
    """Returns the start of a value as one text or, if it is not text, as rows of hexadecimal digits.

    Args:
        raw: The value.
        most_bytes: How many bytes to show.
    """
    part = raw[:most_bytes]
    text = as_text(part) or (as_text(part.decode("utf-8", "ignore").encode()) if len(part) < len(raw) else None)
    if text is not None:
        return [text]
    return [_hex_row(start, part[start : start + _ROW_BYTES]) for start in range(0, len(part), _ROW_BYTES)]


def _hex_row(start: int, raw: bytes) -> str:
    readable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in raw)
    return f"{start:08x}  {raw.hex(' '):{_ROW_BYTES * 3}} {readable}"
