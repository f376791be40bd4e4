"""An alert, as it is stored."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.events.values import Event

_TIMES = ("timestamp", "started_at", "ended_at")
_LISTS = ("frame_ids", "image_paths", "track_ids")


@dataclass(frozen=True, slots=True)
class Alert:
    """A numbered event that someone is notified about."""

    number: int
    """From 1, without holes."""
    event: Event
    """What happened; `ended_at` is as of `raised_at`."""
    difference_image: str | None
    """Key of the image of the difference (image changes), or None."""
    raised_at: datetime
    """When the alert was written, UTC."""
    writer: str
    """Random name of the process that wrote it, to tell its alert from another writer's."""
    notify: tuple[str, ...] = ()
    """Names of the targets that its rule notified when it was raised; empty: all targets."""

    @property
    def images(self) -> tuple[tuple[str, str], ...]:
        """What each image of the alert shows, and where it is stored: `before`, `after`, `difference`, or `image`."""
        paths = self.event.image_paths
        names = ("before", "after") if self.event.kind == "image_change" else tuple("image" for _ in paths)
        difference = (("difference", self.difference_image),) if self.difference_image else ()
        return (*zip(names, paths, strict=False), *difference)

    def to_json(self) -> dict[str, Any]:
        """Returns the alert as one JSON object."""
        event = asdict(self.event)
        times = {name: format_time(event[name]) for name in _TIMES}
        lists = {name: list(event[name]) for name in _LISTS}
        return {
            "number": self.number,
            "event_id": self.event.event_id,
            **event,
            **times,
            **lists,
            "difference_image": self.difference_image,
            "raised_at": format_time(self.raised_at),
            "writer": self.writer,
            "notify": list(self.notify),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Alert":
        """Reads what `to_json` wrote; raises KeyError, TypeError or ValueError for something else."""
        event = {each.name: data[each.name] for each in fields(Event)}
        event |= {name: parse_time(event[name]) for name in _TIMES}
        event |= {name: tuple(event[name]) for name in _LISTS}
        return cls(
            number=int(data["number"]),
            event=Event(**event),
            difference_image=data["difference_image"],
            raised_at=parse_time(data["raised_at"]),
            writer=str(data["writer"]),
            notify=tuple(data.get("notify", ())),  # alerts of the first release have none
        )
