"""Reads what a URL asks for: every parameter is checked here before it reaches the lake or the store."""

import base64
import binascii
import json
import re
from datetime import UTC, date, datetime
from typing import Annotated, Literal, Self, TypeVar
from urllib.parse import urlencode

from fastapi import Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from imgpipeline.contracts.outcomes import FrameStatus
from imgpipeline.contracts.times import TimezoneName
from imgpipeline.errors import UsageError
from imgpipeline.lake.query.days import parse_day
from imgpipeline.lake.query.frames import FramePlace
from imgpipeline.lake.query.wanted_frames import DAY_S, TimeOfDay
from imgpipeline.redetect.disagreements import Counted

QueryT = TypeVar("QueryT", bound=BaseModel)
PAGE_FRAMES = 48
"""Frames of a page of the review grid; divides by 2, 3, 4 and 6 columns."""
_LONGEST_NAME = 500
_WORD = re.compile(r'"([^"]*)"?|([^\s"]+)')


def _read_day(given: object) -> date:
    if isinstance(given, str):
        return parse_day(given, "day")
    if isinstance(given, date):
        return given
    raise UsageError(f"day is {given!r}.", next_step="give a day such as 2026-01-09")


def _printable(name: str) -> str:
    if "\0" in name:
        raise ValueError("holds a NUL character")
    return name


Day = Annotated[date, BeforeValidator(_read_day), Field(json_schema_extra={"type": "string", "format": "date"})]
"""A UTC day, such as 2026-01-09."""
Name = Annotated[str, Field(min_length=1, max_length=_LONGEST_NAME), AfterValidator(_printable)]
"""A source or a label; any text that was announced."""
FrameId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
"""The id of a frame: 32 hexadecimal digits."""
TimeText = Annotated[str, Field(pattern=r"^(([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?|24:00)$")]
"""A time of day: `07:30`, `07:30:15`, or `24:00`."""


class _Query(BaseModel):
    """A query whose parameters are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_url(self, **changes: object) -> str:
        """Returns the parameters that are set as the query of a URL, `?` included; empty if none is.

        Args:
            **changes: Other values for some of them; None leaves one out.
        """
        values = {**self.model_dump(mode="json", exclude_defaults=True, by_alias=True), **changes}
        fields = [field.alias or name for name, field in type(self).model_fields.items()]
        names = dict.fromkeys([*fields, *changes])  # always in the same order: one page, one address
        given = {name: str(values[name]) for name in names if values.get(name) is not None}
        return f"?{urlencode(given)}" if given else ""


class Zoned(_Query):
    """A question about days and hours of a time zone."""

    timezone: Annotated[TimezoneName, Field(max_length=100)] | None = Field(
        None, description="Whose days, hours and times of day these are. Default: UTC; on pages, the site's zone."
    )


class NoQuery(_Query):
    """No parameters."""


class DayQuery(_Query):
    """One day."""

    day: Day | None = Field(
        None, description="Day: UTC, or of `timezone` where that can be given. Default: the latest day that has frames."
    )


class OverviewQuery(Zoned, DayQuery):
    """One day of a time zone."""


class AlertQuery(_Query):
    """A page of alerts."""

    before: int | None = Field(None, ge=1, lt=10**10, description="Only alerts with a lower number: `next` of a page.")
    limit: int = Field(100, ge=1, le=1000, description="At most this many.")


class AlertsQuery(AlertQuery):
    """A page of alerts, or one alert whose number somebody has entered."""

    number: str | None = Field(None, description="The alert's number.")


class ListQuery(DayQuery):
    """A page of a list of one day."""

    source: Name | None = Field(None, description="Only this source.")
    after: int = Field(0, ge=0, lt=10**9, description="Rows to leave out: `next` of the page before.")
    limit: int = Field(200, ge=1, le=1000, description="At most this many.")
    format: Literal["json", "csv", "arrow"] = Field("json", description="Form of the answer.")


class ComparisonQuery(DayQuery):
    """A page of the frames in which two models found something."""

    a: Name | None = Field(None, description="One model: `live`, or a redetection such as `demo@0.3`. Default: `live`.")
    b: Name | None = Field(None, description="The other model. Default: the first redetection of the day.")
    label: Name | None = Field(None, description="Only boxes of this label count; frames have all of their boxes.")
    counted: Counted = Field(Counted.DIFFERING, description="Which boxes a frame needs to be listed.")
    after: int = Field(0, ge=0, lt=10**9, description="Frames to leave out: `next` of the page before.")
    limit: int = Field(PAGE_FRAMES, ge=1, le=1000, description="At most this many.")


class CountQuery(Zoned, DayQuery):
    """Counts of labels of one day."""

    source: Name | None = Field(None, description="Only this source.")
    label: Name | None = Field(None, description="Only this label.")
    by: Literal["label", "hour", "source", "label,hour", "label,source", "label,hour,source"] = Field(
        "label,hour", description="What makes a group."
    )
    format: Literal["json", "csv", "arrow"] = Field("json", description="Form of the answer.")


class NumberQuery(_Query):
    """One number of `label_counts` or, without an hour, `label_totals`."""

    day: Day = Field(description="UTC day.")
    label: Name = Field(description="The label.")
    hour: int | None = Field(None, ge=0, le=23, description="Hour of the day (UTC). Default: the whole day.")
    source: Name | None = Field(None, description="Only detections of this source.")


class PlacesQuery(DayQuery):
    """What was counted at zones and lines."""

    source: Name | None = Field(None, description="Only zones and lines of this source.")


class PlaceNumberQuery(_Query):
    """One number of a zone or of a line."""

    day: Day = Field(description="UTC day.")
    zone: Name | None = Field(None, description="The zone; or `line`.")
    line: Name | None = Field(None, description="The line; or `zone`.")
    label: Name = Field(description="The label.")
    direction: Name | None = Field(None, description="In which direction the line was crossed.")
    hour: int | None = Field(None, ge=0, le=23, description="Hour of the day (UTC). Default: the whole day.")
    after: int = Field(0, ge=0, lt=10**9, description="Rows to leave out: `next` of the page before.")
    limit: int = Field(PAGE_FRAMES, ge=1, le=1000, description="At most this many.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.zone is None) == (self.line is None):
            raise ValueError("one of zone and line is needed")
        if (self.line is None) != (self.direction is None):
            raise ValueError("a line needs a direction, and a zone has none")
        return self


class SpanQuery(Zoned):
    """Some days."""

    from_day: Day | None = Field(None, alias="from", description="The first day.")
    to_day: Day | None = Field(None, alias="to", description="The last day.")


class MonthQuery(Zoned):
    """One month."""

    month: Annotated[str, Field(pattern=r"^[12]\d{3}-(0[1-9]|1[0-2])$")] | None = Field(
        None, description="Such as 2026-01. Default: that of the latest day."
    )

    @property
    def first_day(self) -> date | None:
        """The first day of the month."""
        return date.fromisoformat(f"{self.month}-01") if self.month else None


class FrameQuery(Zoned, DayQuery):
    """Which frames. All filters have to match; a frame that does is shown with all of its boxes."""

    from_day: Day | None = Field(None, alias="from", description="The first of several days, instead of `day`.")
    to_day: Day | None = Field(None, alias="to", description="The last of several days, instead of `day`.")
    source: Name | None = Field(None, description="Only frames of this source.")
    label: Name | None = Field(None, description="Only frames in which this label was found.")
    hour: int | None = Field(None, ge=0, le=23, description="Only frames of this hour of the day.")
    time_from: TimeText | None = Field(None, description="Only frames from this time of day on, such as `07:30`.")
    time_to: TimeText | None = Field(
        None, description="Only frames before this time of day; if it is before `time_from`, over midnight."
    )
    min_confidence: float | None = Field(
        None, ge=0, le=1, description="Only frames with a detection, of `label` if given, of at least this confidence."
    )
    status: FrameStatus | None = Field(None, description="Only frames with this status.")
    zone: Name | None = Field(None, description="Only frames with a detection, of `label` if given, in this zone.")
    track: Name | None = Field(None, description="Only frames with a detection of the track of this `track_id`.")
    object: Name | None = Field(None, description="Only frames with a detection of the object of this `object_id`.")
    event: Name | None = Field(None, description="Only the frames that show the event of this `event_id`.")
    model: Name | None = Field(None, description="Only frames that this model looked at, and its detections.")
    text: Name | None = Field(
        None, description='Only frames that hold each of these words, or `"two words"`, in a name, label or attribute.'
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.has_several_days and self.day is not None:
            raise ValueError("day and from or to are both given")
        if self.from_day and self.to_day and self.from_day > self.to_day:
            raise ValueError("from is later than to")
        if self.time_from is not None and self.time_from == self.time_to:
            raise ValueError("time_from and time_to are equal")
        return self

    @property
    def has_several_days(self) -> bool:
        """Whether it asks for several days instead of one."""
        return self.from_day is not None or self.to_day is not None

    @property
    def time_of_day(self) -> TimeOfDay | None:
        """The part of each day that it asks for."""
        if self.time_from is None and self.time_to is None:
            return None
        return TimeOfDay(_seconds(self.time_from or "00:00"), _seconds(self.time_to or "24:00"))

    @property
    def of_whole_days(self) -> Self:
        """The same filters for all times of day."""
        return self.model_copy(update={"hour": None, "time_from": None, "time_to": None})

    @property
    def is_number(self) -> bool:
        """Whether the filters, apart from the confidence, are those of a number of `label_counts`."""
        others = (self.status, self.zone, self.track, self.object, self.event, self.model, self.text, self.time_of_day)
        return self.label is not None and all(one is None for one in others)

    def on(self, day: date) -> Self:
        """Returns the same filters for the list in which a frame of a day stands."""
        return self if self.has_several_days else self.model_copy(update={"day": day})


class PageQuery(FrameQuery):
    """A page of frames."""

    @property
    def at_s(self) -> int | None:
        """The time of day at which the page begins, in seconds."""
        return None if self.at is None else _seconds(self.at)

    after: str | None = Field(None, max_length=300, description="A cursor: the frames after it, which are older.")
    before: str | None = Field(None, max_length=300, description="A cursor: the frames before it, which are newer.")
    at: TimeText | None = Field(
        None, description="Begin at this time of the last day, with the frames then and older ones."
    )

    @property
    def filters(self) -> FrameQuery:
        """The same frames without a place."""
        exclude = {"after", "before", "at", "limit", "format"}
        return FrameQuery.model_validate(self.model_dump(exclude=exclude, by_alias=True))


class FramesQuery(PageQuery):
    """A page of frames of the API."""

    limit: int = Field(100, ge=1, le=1000, description="At most this many.")
    format: Literal["json", "csv", "arrow"] = Field("json", description="Form of the answer.")


def _seconds(time: str) -> int:
    hours, minutes, *seconds = map(int, time.split(":"))
    return min(DAY_S, (hours * 60 + minutes) * 60 + sum(seconds))


def words_of(text: str) -> tuple[str, ...]:
    """Returns the words of a text; quotes hold several together as one."""
    found = (quoted or plain for quoted, plain in _WORD.findall(text))
    return tuple(word for word in found if word.strip())


def cursor_of(place: FramePlace) -> str:
    """Returns a place as text for a URL."""
    values = [place.timestamp.astimezone(UTC).isoformat(), place.day.isoformat(), place.frame_id]
    return base64.urlsafe_b64encode(json.dumps(values, separators=(",", ":")).encode()).decode().rstrip("=")


def read_cursor(cursor: str | None) -> FramePlace | None:
    """Reads the text of `cursor_of`.

    Raises:
        UsageError: It is no such text.
    """
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        timestamp, day, frame_id = json.loads(text)
        place = FramePlace(datetime.fromisoformat(timestamp), date.fromisoformat(day), frame_id)
        if place.timestamp.tzinfo is None or len(bytes.fromhex(frame_id)) != 16:
            raise ValueError(frame_id)
    except (ValueError, TypeError, binascii.Error):
        raise UsageError(
            f"The cursor {cursor[:40]!r} is not one of this server.", next_step="start without after and before"
        ) from None
    return place


def read_query(kind: type[QueryT], request: Request) -> QueryT:
    """Reads the query of a page; fields that a form sends empty are not given, and several days replace one.

    Raises:
        UsageError: A parameter is unknown or wrong.
    """
    given = {name: value for name, value in request.query_params.items() if value}
    if "from" in given or "to" in given:
        given.pop("day", None)  # of the form, which sends the day that it showed
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise wrong_parameter(error.errors()[0]["loc"], error.errors()[0]["msg"]) from None


def wrong_parameter(place: tuple[int | str, ...], why: str) -> UsageError:
    """Returns the error for a parameter that is unknown or wrong."""
    name = place[-1] if place else "query"
    return UsageError(f"{name}: {why}.", next_step="`/docs` lists the parameters")
