"""How the frames of a source are published: queue, writers, and the pace of accounts."""

from dataclasses import dataclass, field, replace

from imgpipeline.contracts.messages import MessageFormat
from imgpipeline.settings import Settings
from imgpipeline.sources.preparing import Preparation
from imgpipeline.sources.protocol import SourceKind


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """How the frames of a source are published."""

    queue_frames: int = 64
    """Frames that wait to be stored, at most."""
    queue_bytes: int = 64 * 2**20
    """Bytes of these frames, at most; one frame is always taken."""
    writers: int = 8
    """Images that are stored at a time."""
    account_s: float = 60.0
    """Seconds between two accounts while frames flow."""
    idle_account_s: float = 600.0
    """Seconds between two accounts of a live source without frames."""
    commit_s: float = 0.2
    """Seconds between two announcements of a live source, each a Kafka transaction; less while its queue is full."""
    preparation: Preparation = field(default_factory=Preparation)
    """What is done to the frames before they are stored."""
    message_format: MessageFormat = MessageFormat.NATIVE
    """How frames are announced; programs that read the classic form get no notices, which they do not know,
    unless these have a topic of their own."""
    stall_s: float = 10.0
    """A gap between two frames counts as observed for at most this many seconds."""
    drain_s: float = 30.0
    """Seconds that closing a live source waits for store and Kafka; frames that still wait then are dropped."""


def default_options(kind: SourceKind) -> PublishOptions:
    """Returns the options of a kind: a live source stores two images at a time, so that many share a machine."""
    options = PublishOptions()
    return options if kind is SourceKind.FINITE else replace(options, writers=2)


def fence_of(settings: Settings, name: str, kind: SourceKind) -> str | None:
    """Returns the name for which only one publisher at a time may send; None if several may."""
    return name if kind is SourceKind.LIVE and settings.kafka_transactions else None
