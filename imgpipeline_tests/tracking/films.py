"""Outcomes of frames that show cars driving slowly to the right."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.outcomes import Frame
from imgpipeline_tests.ledger.samples import frame


@dataclass(frozen=True)
class Car:
    """One object that is seen from one time to another."""

    first: datetime
    last: datetime
    label: str = "car"
    y: float = 100.0
    confidence: float = 0.9
    hidden: tuple[datetime, datetime] | None = None


def film(
    start: datetime, end: datetime, cars: Sequence[Car], *, offset: int = 0, rate: float = 0.2, source: str = "gate"
) -> list[Frame]:
    """Return the frames of a camera from one time to another, numbered from an offset."""
    count = round((end - start).total_seconds() * rate)
    return [_frame(offset + n, start + timedelta(seconds=n / rate), cars, source) for n in range(count)]


def _frame(offset: int, at: datetime, cars: Sequence[Car], source: str) -> Frame:
    found = []
    for car in cars:
        is_hidden = car.hidden is not None and car.hidden[0] <= at < car.hidden[1]
        if car.first <= at < car.last and not is_hidden:
            x = 10.0 + 0.05 * (at - car.first).total_seconds()
            found.append(Detection(car.label, 2, car.confidence, (x, car.y, 80.0, 60.0)))
    return replace(frame(offset, at.date(), source), timestamp=at, detections=tuple(found), sharpness=10.0 + offset % 7)
