"""The stored frames of a day as sources, to announce them again, for example in another topic."""

from collections.abc import Iterator
from datetime import date
from threading import Event

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.outcomes import Frame, make_frame_id
from imgpipeline.ledger import fix_ends, read_day
from imgpipeline.objectstore import ObjectStore
from imgpipeline.sources.protocol import Captured, CapturedFrame, SourceKind, StoredImage
from imgpipeline.sources.storing import NOT_STORED


class StoredFrames:
    """The stored frames of one source and day, ordered by time; each keeps its identity."""

    kind = SourceKind.FINITE

    def __init__(self, name: str, frames: list[CapturedFrame]) -> None:
        """Takes the frames of one source."""
        self.name = name
        self.frames = sorted(frames, key=lambda frame: (frame.timestamp, frame.number or 0))

    def capture(self, stop: Event) -> Iterator[Captured]:
        """Yields the frames."""
        for frame in self.frames:
            if stop.is_set():
                return
            yield frame


def find_stored_frames(store: ObjectStore, day: date, source: str | None = None) -> tuple[list[StoredFrames], int]:
    """Finds the frames of a day in the ledger. A frame that was announced several times is found once.

    Args:
        store: The object store.
        day: UTC day of the frames' own times.
        source: Only this source; None: all sources.

    Returns:
        The sources, sorted by name, and the number of frames without a stored image.

    Raises:
        LedgerError: A segment cannot be read.
        TransientError: The store does not answer.
    """
    ends = {chain: end.offset for chain, end in fix_ends(store).items()}
    found: dict[str, dict[str, CapturedFrame]] = {}
    missing: set[str] = set()
    for segment in read_day(store, day, ends):
        for outcome in segment.outcomes():
            if not isinstance(outcome, Frame) or outcome.day != day or source not in (None, outcome.source):
                continue
            if not outcome.source_image_path or outcome.attributes.get(NOT_STORED) is False:
                missing.add(outcome.frame_id)
            else:
                found.setdefault(outcome.source, {}).setdefault(outcome.frame_id, _captured(outcome))
    return [StoredFrames(name, list(frames.values())) for name, frames in sorted(found.items())], len(missing)


def _captured(frame: Frame) -> CapturedFrame:
    path, number = frame.source_image_path, frame.frame_number
    named = make_frame_id(frame.source, frame.timestamp, path if number is None else number)
    stored = StoredImage(path, frame.size_bytes, None, frame.image_width, frame.image_height)
    return CapturedFrame(
        frame.timestamp,
        frame.clock_source or ClockSource.PRODUCER,
        stored=stored,
        number=number,
        attributes=frame.attributes,
        has_own_timestamp=named == frame.frame_id,  # otherwise its content identifies it
    )
