"""Options of publishing: how frames are prepared, queued, stored, announced and accounted for."""

import contextlib
from dataclasses import dataclass, field, replace

from imgpipeline.contracts.messages import MessageFormat
from imgpipeline.sources.protocol import SourceKind
from imgpipeline.vision.gate import Gate

Polygon = tuple[tuple[float, float], ...]
"""Three or more points (x, y) as fractions of width and height of the upright image, 0 to 1."""
GRAY, EDGES = "gray", "edges"
"""The derived images that are named by a word; others are named by a size."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is done to the frames of a source before they are stored; by default nothing."""

    gate: Gate = field(default_factory=Gate)
    store_gated: bool = True
    masks: tuple[Polygon, ...] = ()
    resize: tuple[int, int] | None = None
    """Width and height in pixels to which the stored image is stretched; None: as received."""
    derive: tuple[str, ...] = ()
    """Images that are derived from the stored one and stored next to it: `gray`, `edges`, or a size."""

    @property
    def changes_images(self) -> bool:
        """Whether the stored image differs from the received one."""
        return bool(self.masks or self.resize)


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """How the frames of a source are published."""

    queue_frames: int = 64
    queue_bytes: int = 64 * 2**20
    """How many bytes these frames may have; an empty queue takes one frame of any size."""
    writers: int = 8
    account_s: float = 60.0
    """Seconds between two accounts while frames flow."""
    idle_account_s: float = 600.0
    """Seconds between two accounts of a live source without frames."""
    commit_s: float = 0.2
    """Seconds between two announcements of a live source, each a Kafka transaction; shorter while its queue is full."""
    preparation: Preparation = field(default_factory=Preparation)
    message_format: MessageFormat = MessageFormat.NATIVE
    """How frames are announced. Consumers of the classic form do not understand notices, so these are sent only if
    they have their own topic."""
    skips_stored: bool = False
    """Whether images that are stored already, with the same bytes, are left out instead of announced again."""
    first_number: int = 0
    """Added to the number of a frame in its image's key."""
    stall_s: float = 10.0
    """A gap between two frames counts as observed for at most this many seconds."""
    drain_s: float = 30.0
    """Seconds that closing a live source waits for store and Kafka; frames still waiting then are dropped."""


def default_options(kind: SourceKind) -> PublishOptions:
    """Returns the defaults. A live source stores only two images at the same time, so many can share a machine."""
    options = PublishOptions()
    return options if kind is SourceKind.FINITE else replace(options, writers=2)


def parse_size(text: str) -> tuple[int, int]:
    """Reads a size such as `640x360`.

    Raises:
        ValueError: The text is not a size.
    """
    width, cross, height = text.lower().partition("x")
    if not cross or not all(side.isdecimal() and 0 < int(side) < 65_536 for side in (width, height)):
        raise ValueError(f"got {text!r}, expected a size such as 640x360")
    return int(width), int(height)


def check_size(text: str) -> str:
    """Returns a size such as `640x360` unchanged; raises ValueError if the text is not a size."""
    parse_size(text)
    return text


def parse_polygon(text: str) -> Polygon:
    """Reads a polygon such as `0,0 0.5,0 0.5,0.2`.

    Raises:
        ValueError: The text is not a polygon of fractions.
    """
    points = [tuple(float(number) for number in point.split(",")) for point in text.split()]
    if len(points) < 3 or any(len(point) != 2 or not all(0 <= number <= 1 for number in point) for point in points):
        raise ValueError(f"got {text!r}, expected three or more points x,y between 0 and 1, separated by blanks")
    return tuple((point[0], point[1]) for point in points)


def check_derivation(text: str) -> str:
    """Returns the name of a derived image: `gray`, `edges` (Canny), or a size such as `640x360`.

    Raises:
        ValueError: The text is none of these.
    """
    with contextlib.suppress(ValueError):
        if text in (GRAY, EDGES) or text == "{}x{}".format(*parse_size(text)):
            return text
    raise ValueError(f"got {text!r}, expected gray, edges or a size such as 640x360")
