"""The parameters of URLs and forms: each is checked here before it reaches the lake or the store."""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlencode

from fastapi import Path
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from imgpipeline.contracts.outcomes import FrameStatus
from imgpipeline.contracts.times import TimezoneName
from imgpipeline.errors import UsageError
from imgpipeline.lake.query.days import parse_day
from imgpipeline.lake.query.frames import FramePlace
from imgpipeline.lake.query.wanted_frames import DAY_S, TimeOfDay

PAGE_FRAMES = 48
"""Frames per page of a grid; fills 2, 3, 4 or 6 columns."""
_LONGEST_NAME = 500
MOST_FORM_BYTES = 64 * 1024
_WORD = re.compile(r'"([^"]*)"?|([^\s"]+)')


def _read_day(given: object) -> date:
    if isinstance(given, str):
        return parse_day(given, "day")
    if isinstance(given, date):
        return given
    raise UsageError(f"day is {given!r}, not a date.", next_step="give a day such as 2026-01-09")


def _printable(name: str) -> str:
    if "\0" in name:
        raise ValueError("contains a NUL character")
    return name


Day = Annotated[date, BeforeValidator(_read_day), Field(json_schema_extra={"type": "string", "format": "date"})]
"""A UTC day, such as 2026-01-09."""
Name = Annotated[str, Field(min_length=1, max_length=_LONGEST_NAME), AfterValidator(_printable)]
"""A source, a label or another name from outside."""
FrameId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
"""Id of a frame: 32 hexadecimal digits."""
DayPath = Annotated[Day, Path(description="UTC day, such as 2026-01-09.")]
"""The day in a path."""
FramePath = Annotated[FrameId, Path(description="Id of the frame.")]
"""The frame in a path."""
TimeText = Annotated[str, Field(pattern=r"^(([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?|24:00)$")]
"""A time of day: `07:30`, `07:30:15`, or `24:00`."""


def _split(given: object) -> object:
    match given:
        case [str(text)]:  # the field of a form
            return text.replace(",", " ").split()
    return given


Splits = BeforeValidator(_split)
"""Lets a form send the values of a list in one field, with commas or spaces between them."""
Note = Annotated[str, Field(max_length=2_000)]
"""A comment of a person."""


class Given(BaseModel):
    """Fields of a URL, a form or a document: empty ones count as missing, and unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, given: Any) -> Any:
        return {name: value for name, value in given.items() if value != ""} if isinstance(given, dict) else given


class UrlQuery(Given):
    """The parameters of a URL."""

    def to_url(self, **changes: object) -> str:
        """Returns the parameters that are not at their default as the query of a URL, with `?`; empty without any.

        `changes` are new values of some parameters; None removes one.
        """
        values = {**self.model_dump(mode="json", exclude_defaults=True, by_alias=True), **changes}
        fields = [field.alias or name for name, field in type(self).model_fields.items()]
        names = dict.fromkeys([*fields, *changes])  # in a fixed order, so that a page has one URL
        given = {name: str(values[name]) for name in names if values.get(name) is not None}
        return f"?{urlencode(given)}" if given else ""


class Zoned(UrlQuery):
    """A query with days and hours of a time zone."""

    timezone: Annotated[TimezoneName, Field(max_length=100)] | None = Field(
        None, description="Time zone of days, hours and times of day. Default: UTC; on pages, the site's time zone."
    )


class NoQuery(UrlQuery):
    """No parameters."""


class DayQuery(UrlQuery):
    """One day."""

    day: Day | None = Field(
        None, description="Day in UTC, or in `timezone` where that is a parameter. Default: the latest day with frames."
    )


class OverviewQuery(Zoned, DayQuery):
    """One day in a time zone, or an alert."""

    alert_num: str | None = Field(None, description="Number of an alert: the address of the classic alert viewer.")


class ListQuery(DayQuery):
    """A page of a list of one day."""

    source: Name | None = Field(None, description="Only this source.")
    after: int = Field(0, ge=0, lt=10**9, description="Number of rows to skip: `next` of the previous page.")
    limit: int = Field(200, ge=1, le=1000, description="Maximum number of rows.")
    format: Literal["json", "csv", "arrow"] = Field("json", description="Format of the response.")


class CountQuery(Zoned, DayQuery):
    """Label counts of one day."""

    source: Name | None = Field(None, description="Only this source.")
    label: Name | None = Field(None, description="Only this label.")
    by: Literal["label", "hour", "source", "label,hour", "label,source", "label,hour,source"] = Field(
        "label,hour", description="Columns to group by."
    )
    format: Literal["json", "csv", "arrow"] = Field("json", description="Format of the response.")


class NumberQuery(UrlQuery):
    """One count of `label_counts` or, without an hour, of `label_totals`."""

    day: Day = Field(description="UTC day.")
    label: Name = Field(description="The label.")
    hour: int | None = Field(None, ge=0, le=23, description="UTC hour. Default: the whole day.")
    source: Name | None = Field(None, description="Only detections of this source.")


class SpanQuery(Zoned):
    """A range of days."""

    from_day: Day | None = Field(None, alias="from", description="The first day.")
    to_day: Day | None = Field(None, alias="to", description="The last day.")


class MonthQuery(Zoned):
    """One month."""

    month: Annotated[str, Field(pattern=r"^[12]\d{3}-(0[1-9]|1[0-2])$")] | None = Field(
        None, description="Month, such as 2026-01. Default: the month of the latest day."
    )

    @property
    def first_day(self) -> date | None:
        """The first day of the month."""
        return date.fromisoformat(f"{self.month}-01") if self.month else None


class FrameQuery(Zoned, DayQuery):
    """Filters for frames. All of them must match; a matching frame has all of its boxes."""

    from_day: Day | None = Field(None, alias="from", description="First day of a range, instead of `day`.")
    to_day: Day | None = Field(None, alias="to", description="Last day of a range, instead of `day`.")
    source: Name | None = Field(None, description="Only frames of this source.")
    label: Name | None = Field(None, description="Only frames with a detection of this label.")
    hour: int | None = Field(None, ge=0, le=23, description="Only frames of this hour of the day.")
    time_from: TimeText | None = Field(None, description="Only frames at or after this time of day, such as `07:30`.")
    time_to: TimeText | None = Field(
        None,
        description="Only frames before this time of day. If it is earlier than `time_from`, the range spans midnight.",
    )
    min_confidence: float | None = Field(
        None, ge=0, le=1, description="Only frames with a detection (of `label`, if given) of at least this confidence."
    )
    status: FrameStatus | None = Field(None, description="Only frames with this status.")
    zone: Name | None = Field(None, description="Only frames with a detection (of `label`, if given) in this zone.")
    track: Name | None = Field(None, description="Only frames of the track with this `track_id`.")
    object: Name | None = Field(None, description="Only frames of the object with this `object_id`.")
    event: Name | None = Field(None, description="Only frames that show the event with this `event_id`.")
    model: Name | None = Field(None, description="Only frames processed by this model, and its detections.")
    text: Name | None = Field(
        None, description='Only frames with each of these words, or `"two words"`, in a name, label or attribute.'
    )

    @model_validator(mode="before")
    @classmethod
    def _prefer_range(cls, given: Any) -> Any:
        """Drops `day` if a range is given: the form of the filters also sends the day that it shows."""
        has_range = isinstance(given, dict) and (given.get("from") or given.get("to"))
        return {name: value for name, value in given.items() if name != "day"} if has_range else given

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.from_day and self.to_day and self.from_day > self.to_day:
            raise ValueError("from is later than to")
        if self.time_from is not None and self.time_from == self.time_to:
            raise ValueError("time_from and time_to are equal")
        return self

    @property
    def has_several_days(self) -> bool:
        """Whether the query has a range of days instead of one day."""
        return self.from_day is not None or self.to_day is not None

    @property
    def time_of_day(self) -> TimeOfDay | None:
        """The requested part of each day; None for the whole day."""
        if self.time_from is None and self.time_to is None:
            return None
        return TimeOfDay(_seconds(self.time_from or "00:00"), _seconds(self.time_to or "24:00"))

    @property
    def of_whole_days(self) -> Self:
        """The same filters without a time of day."""
        return self.model_copy(update={"hour": None, "time_from": None, "time_to": None})

    @property
    def is_number(self) -> bool:
        """Whether the filters, apart from the confidence, describe a count of `label_counts`."""
        others = (self.status, self.zone, self.track, self.object, self.event, self.model, self.text, self.time_of_day)
        return self.label is not None and all(one is None for one in others)

    def on(self, day: date) -> Self:
        """Returns the same filters for the list that contains a frame of a day."""
        return self if self.has_several_days else self.model_copy(update={"day": day})


class PageQuery(FrameQuery):
    """A page of frames."""

    after: str | None = Field(None, max_length=300, description="Cursor: only older frames.")
    before: str | None = Field(None, max_length=300, description="Cursor: only newer frames.")
    at: TimeText | None = Field(None, description="Start at this time of the last day, followed by older frames.")

    @property
    def at_s(self) -> int | None:
        """Time of day at which the page starts, in seconds; None without one."""
        return None if self.at is None else _seconds(self.at)

    @property
    def filters(self) -> FrameQuery:
        """The filters without a position in the list."""
        exclude = {"after", "before", "at", "limit", "format"}
        return FrameQuery.model_validate(self.model_dump(exclude=exclude, by_alias=True))


class FramesQuery(PageQuery):
    """A page of frames in the API."""

    limit: int = Field(100, ge=1, le=1000, description="Maximum number of frames.")
    format: Literal["json", "csv", "arrow"] = Field("json", description="Format of the response.")


def _seconds(time: str) -> int:
    hours, minutes, *seconds = map(int, time.split(":"))
    return min(DAY_S, (hours * 60 + minutes) * 60 + sum(seconds))


def next_after(after: int, limit: int, rows: int) -> int | None:
    """Returns `after` of the next page of a list; None on the last page."""
    return after + limit if after + limit < rows else None


def words_of(text: str) -> tuple[str, ...]:
    """Returns the words of a text; quoted words count as one."""
    found = (quoted or plain for quoted, plain in _WORD.findall(text))
    return tuple(word for word in found if word.strip())


def cursor_of(place: FramePlace) -> str:
    """Returns a place in a list as a cursor."""
    values = [place.timestamp.astimezone(UTC).isoformat(), place.day.isoformat(), place.frame_id]
    return base64.urlsafe_b64encode(json.dumps(values, separators=(",", ":")).encode()).decode().rstrip("=")


def read_cursor(cursor: str | None) -> FramePlace | None:
    """Parses a cursor.

    Raises:
        UsageError: The text is not a cursor.
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
            f"{cursor[:40]!r} is not a cursor of this server.", next_step="start without after and before"
        ) from None
    return place


def wrong_parameter(
    errors: Sequence[Mapping[str, Any]], *, what: str = "query", next_step: str = "`/docs` lists the parameters"
) -> UsageError:
    """Returns the error for the first parameter that pydantic refuses.

    `what` names the whole, for errors that concern no single parameter.
    """
    names = [part for part in errors[0]["loc"] if isinstance(part, str)]
    return UsageError(f"{names[-1] if names else what}: {errors[0]['msg']}.", next_step=next_step)
