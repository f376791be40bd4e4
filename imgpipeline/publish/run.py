"""The request to a publisher: what to publish and where, from which store, and for how long."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING

from imgpipeline.contracts.detection import Kind
from imgpipeline.contracts.times import Clock, utc_now
from imgpipeline.settings import Settings

if TYPE_CHECKING:
    from imgpipeline.objectstore import ObjectStore


class Form(StrEnum):
    """The format of the published records."""

    NATIVE = "native"
    CLASSIC = "classic"


@dataclass(frozen=True, slots=True)
class Publication:
    """What to publish, and where."""

    topic: str
    form: Form = Form.NATIVE
    kind: Kind | None = None
    """Which labels; None for all."""

    def name_of(self, result: str) -> str:
        """Returns the publisher's name. Of several with one name on one topic, only the latest can publish."""
        return f"{result}-{self.kind}" if self.kind else result


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a publisher."""

    store: "ObjectStore"
    settings: Settings
    clock: Clock = utc_now
    should_continue: Callable[[], bool] = lambda: False
    """Called when everything is published; returns whether to look for new results."""
    progress: Callable[[int], object] = lambda _: None
    """Called with the number of records of each committed transaction or acknowledged batch."""
    on_waiting: Callable[[date], object] = lambda _: None
    """Called with a day whose tables are older than its frames; this and later days are not published yet."""
