"""A video file as a source: its frames are stored as JPEG and announced with their own times.

Source, time and number in the video identify a frame, so ingesting the same video again counts nothing twice. The
image's key contains time and content, so another video of the same name never replaces an image.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.text import counted
from imgpipeline.settings import Settings
from imgpipeline.sources.ingest import announced_of, ingest_source
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.protocol import (
    Captured,
    CapturedFrame,
    Lost,
    Settled,
    SourceKind,
    StatusChange,
    checked_source,
)
from imgpipeline.sources.storing import ImageStore
from imgpipeline.sources.video_frames import FrameChoice, Unreadable, VideoFrame, read_frames, read_info


class VideoSource:
    """The frames of one video file."""

    kind = SourceKind.FINITE

    def __init__(
        self,
        path: Path,
        name: str,
        *,
        start: datetime | None = None,
        choice: FrameChoice = FrameChoice(),  # noqa: B008 - a value
        realtime: bool = False,
    ) -> None:
        """Opens the file to check that it is a video.

        Args:
            start: Time of the first frame; None: the creation time in the video, otherwise the file's modification
                time.

        Raises:
            ConfigurationError: There is no such file, or it is not a video.
            UsageError: The name of the source is not valid.
        """
        self.name = checked_source(name)
        self.path = path
        self.info = read_info(path)
        modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        self.start = (start or self.info.created or modified).astimezone(UTC)
        self.lost: list[Unreadable] = []
        self.end = self.start
        self._choice = choice
        self._realtime = realtime

    @property
    def following(self) -> datetime:
        """Start time of a video that follows this one; correct after this one was captured."""
        whole = self.start + timedelta(seconds=round(self.info.duration_s, 3))
        return max(whole, self.end + timedelta(milliseconds=1))

    @property
    def expected_frames(self) -> int | None:
        """How many frames it will yield; None: unknown."""
        return self._choice.of(self.info.frames).expected(self.info.rate)

    def capture(self, stop: Event) -> Iterator[Captured]:
        """Yields the chosen frames. Unreadable frames count as failed; a truncated file ends offline."""
        began = datetime.now(UTC)
        for read in read_frames(self.path, self._choice):
            if stop.is_set():
                return
            if isinstance(read, Unreadable):
                self.lost.append(read)
                yield Lost(read.reason, read.count, Settled.FAILED, at=self.end)
                if read.reason == "truncated":
                    yield StatusChange(
                        online=False, reason=f"the file ends {counted(read.count, 'frame')} early", at=self.end
                    )
                continue
            self.end = self.start + timedelta(seconds=read.offset_s)
            if self._realtime:
                stop.wait((began + timedelta(seconds=read.offset_s) - datetime.now(UTC)).total_seconds())
            yield self._frame(read)

    def _frame(self, frame: VideoFrame) -> CapturedFrame:
        attributes = {"video": self.path.name.encode("utf-8", "replace").decode(), "offset_s": frame.offset_s}
        return CapturedFrame(
            self.start + timedelta(seconds=frame.offset_s),
            ClockSource.CONTAINER,
            pixels=frame.pixels,
            number=frame.number,
            attributes=attributes,
        )


@dataclass(frozen=True, slots=True)
class VideoIngest:
    """The result of an ingest of a video."""

    file: str
    source: str
    announced: int
    failed: int
    """Wanted frames that could not be read or stored."""
    notes: tuple[str, ...]
    """What could not be read, for a person."""
    first_time: datetime
    last_time: datetime


def ingest_video(
    settings: Settings,
    video: VideoSource,
    *,
    store: ImageStore | None = None,
    options: PublishOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VideoIngest:
    """Stores and announces frames of a video.

    Args:
        store: Where to put the images; None: the store of the settings.
        progress: Called with the number of announced frames and the total (0 if it is not known).

    Raises:
        ConfigurationError: The video has no frame, or a setting is wrong.
        KeyboardInterrupt: Ctrl-C; `progress` was last called with the number of announced frames.
        TransientError: The broker does not answer at the start.
    """
    total = video.expected_frames or 0
    totals = ingest_source(settings, video, store=store, options=options, progress=announced_of(progress, total))
    damaged = sum(lost.count for lost in video.lost if lost.reason == "decode")
    notes = [f"{counted(damaged, 'frame')} could not be decoded"] if damaged else []
    notes += [f"the file ends {counted(lost.count, 'frame')} early" for lost in video.lost if lost.reason != "decode"]
    return VideoIngest(
        file=str(video.path),
        source=video.name,
        announced=totals.announced,
        failed=totals.failed,
        notes=tuple(notes),
        first_time=video.start,
        last_time=video.end,
    )
