"""`imgpipeline.Lake`: frames, detections, counts, SQL and images for notebooks and scripts.

from imgpipeline import Lake

with Lake.open() as lake:
    cars = lake.detections(day="2026-01-09", label="car")  # a pandas DataFrame
"""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from typing_extensions import TypeVar

from imgpipeline.contracts.outcomes import FrameStatus
from imgpipeline.contracts.times import check_timezone
from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.lake.query.books import books_table, read_books
from imgpipeline.lake.query.days import ARGUMENTS, Day, Span, days_of, optional_day, parse_day, read_span, unknown_day
from imgpipeline.lake.query.events import find_alerts, find_events
from imgpipeline.lake.query.explain import Explanation, NumberId, explain
from imgpipeline.lake.query.frames import find_detections, find_frames
from imgpipeline.lake.query.summaries import LabelChoice, summarise
from imgpipeline.lake.query.wanted_frames import WantedFrames, equal_to
from imgpipeline.lake.sessions.session import LakeSession, open_lake
from imgpipeline.ledger.days import known_days
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

TableT = TypeVar("TableT", default="pd.DataFrame")
Names = str | Sequence[str]
"""One name, or several."""


class Lake(Generic[TableT]):
    """Read access to the tables, numbers and images of one store.

    Each call reads the store at that moment: the stored tables and newer segments of the ledger. Use `session` for
    several queries about one moment. Safe to use from several threads.

    Tables have the same columns and types whether or not they have rows; times are timezone-aware. Days are dates or
    text such as `2026-01-09`. `day` is one day, and an unknown day is an error. `from_day` and `to_day` are the ends of
    a span, both included, which may have no days.

    Every method raises `ConfigurationError` for wrong arguments, unknown days and a closed lake, `LedgerError` if a
    segment cannot be read, `PermanentError` if a stored table cannot be read or this machine has too little memory or
    disk, and `TransientError` if the store does not answer.
    """

    def __init__(self, store: ObjectStore, settings: Settings, convert: Callable[[pa.Table], TableT]) -> None:
        """Wraps an open store; use `Lake.open`.

        Args:
            convert: Converts Arrow tables into the results of the methods.
        """
        self._store = store
        self._settings = settings
        self._convert = convert
        self._is_closed = False

    def close(self) -> None:
        """Closes the lake; later calls raise `ConfigurationError`."""
        self._is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        closed = ", closed" if self._is_closed else ""
        return f"<Lake {self._store.url}, time zone {self._settings.timezone}{closed}>"

    def days(self) -> list[date]:
        """Returns the UTC days that the ledger knows, sorted."""
        return known_days(self._open())

    def books(
        self,
        day: Day | None = None,
        *,
        from_day: Day | None = None,
        to_day: Day | None = None,
        source: str | None = None,
    ) -> TableT:
        """Returns the accounts of each source, session and UTC day; without any day, of all days."""
        store, span = self._open(), self._span(day, from_day, to_day)
        entries = read_books(store, self._settings, None if span.is_all else days_of(store, span), source)
        return self._convert(books_table(entries))

    def events(self, day: Day | None = None, *, from_day: Day | None = None, to_day: Day | None = None) -> TableT:
        """Returns the stored events of some UTC days, the latest first, with the columns of the table `events`."""
        return self._convert(find_events(self._open(), self._settings, self._span(day, from_day, to_day))[0])

    def alerts(self, limit: int | None = None) -> TableT:
        """Returns the alerts, the latest first, with number, event, images, delivery and acknowledgements."""
        return self._convert(find_alerts(self._open(), read_limit(limit)))

    def sql(
        self, query: str, *, day: Day | None = None, from_day: Day | None = None, to_day: Day | None = None
    ) -> TableT:
        """Runs one query over all tables of docs/tables.md, like `imgpipeline query`.

        Args:
            query: One SELECT, WITH, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN in DuckDB's SQL. It can neither change
                anything nor open files.
            day: Limit the tables to this UTC day, so that less is read. Without any day: all days.
            from_day: The first UTC day.
            to_day: The last UTC day.
        """
        with self.session(day=day, from_day=from_day, to_day=to_day) as session:
            return self._convert(tidy(session.arrow(query)))

    @contextmanager
    def session(
        self, *, day: Day | None = None, from_day: Day | None = None, to_day: Day | None = None
    ) -> Iterator[LakeSession]:
        """Opens all tables at one moment for several queries; arguments as `sql`.

        Yields:
            The session: `query` returns Python rows, `arrow` an Arrow table, and `connection` is the DuckDB connection.
        """
        span, store = self._span(day, from_day, to_day), self._open()
        days = None if span.is_all else days_of(store, span)
        with open_lake(store, settings=self._settings, days=days) as session:
            yield session

    def tracks(
        self,
        day: Day | None = None,
        *,
        from_day: Day | None = None,
        to_day: Day | None = None,
        source: str | None = None,
        label: str | None = None,
    ) -> TableT:
        """Returns tracks by time, with the columns of the table `tracks` and `stay_s`.

        Frames that are newer than a day's build of tracks are not included.

        Args:
            day: One UTC day. Without any day: all days.
            from_day: The first UTC day.
            to_day: The last UTC day.
            source: Only tracks of this source.
            label: Only tracks of this label.
        """
        select = "SELECT *, (epoch_us(last_seen) - epoch_us(first_seen)) / 1e6 AS stay_s FROM tracks"
        return self._rows(select, "first_seen, track_id", (day, from_day, to_day), source, label)

    def unique_objects(
        self,
        day: Day | None = None,
        *,
        from_day: Day | None = None,
        to_day: Day | None = None,
        source: str | None = None,
        label: str | None = None,
    ) -> TableT:
        """Returns the number of different objects by hour, source and label; arguments as `tracks`.

        An object that is seen in two hours counts in both, so do not add up hours. Use the table `unique_totals` for
        whole days.
        """
        return self._rows("SELECT * FROM unique_objects", "hour, source, label", (day, from_day, to_day), source, label)

    def zone_occupancy(
        self,
        day: Day | None = None,
        *,
        from_day: Day | None = None,
        to_day: Day | None = None,
        source: str | None = None,
        label: str | None = None,
    ) -> TableT:
        """Returns the occupancy of each zone by hour and label; arguments as `tracks`."""
        return self._rows(
            "SELECT * FROM zone_occupancy", "hour, source, zone, label", (day, from_day, to_day), source, label
        )

    def line_crossings(
        self,
        day: Day | None = None,
        *,
        from_day: Day | None = None,
        to_day: Day | None = None,
        source: str | None = None,
        label: str | None = None,
    ) -> TableT:
        """Returns the crossings of each line by hour, label and direction; arguments as `tracks`."""
        order = "hour, source, line, label, direction"
        return self._rows("SELECT * FROM line_crossings", order, (day, from_day, to_day), source, label)

    def _open(self) -> ObjectStore:
        if self._is_closed:
            raise ConfigurationError(f"The lake of {self._store.url} is closed.", next_step="open it with Lake.open()")
        return self._store

    def _span(self, day: Day | None, first: Day | None, last: Day | None, *, is_local: bool = False) -> Span:
        """Reads the days of a call; raises ConfigurationError for a day that the ledger does not know."""
        span, only = read_span(day, first, last, ARGUMENTS), optional_day(day, ARGUMENTS.day)
        if only is not None and not days_of(self._open(), span, with_neighbours=is_local):
            raise unknown_day(only, self.days())
        return span

    def _rows(
        self,
        select: str,
        order: str,
        days: tuple[Day | None, Day | None, Day | None],
        source: str | None,
        label: str | None,
    ) -> TableT:
        day, from_day, to_day = days
        query = f"{select} WHERE {equal_to(source=source, label=label)} ORDER BY {order}"
        return self.sql(query, day=day, from_day=from_day, to_day=to_day)

    @classmethod
    def open(cls, store: "Settings | str | os.PathLike[str] | None" = None) -> "Lake[pd.DataFrame]":
        """Opens a store. Tables are pandas DataFrames; `lake.arrow` returns Arrow tables.

        Args:
            store: Settings; or the URL of a store, `s3://bucket/prefix` or `file:///folder`; or the path of a folder.
                Default: the store in the environment and `.env`. A URL or path only replaces `IMGPIPELINE_STORE_URL`;
                endpoint, credentials and all other settings come from the environment and `.env`.

        Raises:
            ConfigurationError: A setting is wrong, or the folder does not exist.
        """
        if isinstance(store, Settings):
            settings = store
        elif isinstance(store, os.PathLike):
            settings = load_settings(store_url=Path(store).absolute().as_uri())
        else:
            settings = load_settings() if store is None else load_settings(store_url=store)
        check_folder(settings.store_url)
        return Lake(open_store(settings), settings, to_pandas)

    @property
    def arrow(self) -> "Lake[pa.Table]":
        """The same lake, with Arrow tables instead of DataFrames."""
        return Lake(self._open(), self._settings, lambda table: table)

    def frames(
        self,
        day: Day | None = None,
        *,
        from_day: Day | None = None,
        to_day: Day | None = None,
        source: str | None = None,
        label: str | None = None,
        status: str | None = None,
        limit: int | None = None,
    ) -> TableT:
        """Returns frames, the latest first, with the columns of the table `frames`, `file` and `detections`.

        `file` is the name of the image file as its producer gave it. `detections` counts the labels found in the frame,
        such as `{"car": 2}`. A frame that was announced several times has one row.

        Args:
            day: One UTC day. Without any day: the latest day that has frames of this source and status.
            from_day: The first UTC day.
            to_day: The last UTC day.
            source: Only frames of this source.
            label: Only frames in which this label was found.
            status: Only `processed` or only `gated` frames.
            limit: At most this many, the latest ones.
        """
        wanted = WantedFrames(source, label, read_status(status))
        span = self._span(day, from_day, to_day)
        found = find_frames(self._open(), self._settings, span, wanted, read_limit(limit))
        return self._convert(found.table)

    def detections(
        self,
        day: Day | None = None,
        *,
        from_day: Day | None = None,
        to_day: Day | None = None,
        source: str | None = None,
        label: str | None = None,
        min_confidence: float = 0.0,
        limit: int | None = None,
    ) -> TableT:
        """Returns detections, the latest first, with the columns of the table `detections`.

        Args:
            day: One UTC day. Without any day: the latest day that has frames of this source.
            from_day: The first UTC day.
            to_day: The last UTC day.
            source: Only detections of this source.
            label: Only detections of this label.
            min_confidence: Only detections with at least this confidence, 0 to 1.
            limit: At most this many, the latest ones.
        """
        wanted = WantedFrames(source, label, min_confidence=min_confidence)
        span = self._span(day, from_day, to_day)
        found = find_detections(self._open(), self._settings, span, wanted, read_limit(limit))
        return self._convert(found.table)

    def label_counts(
        self,
        day: Day | None = None,
        *,
        from_day: Day | None = None,
        to_day: Day | None = None,
        source: Names | None = None,
        label: Names | None = None,
        by: Names | None = None,
        timezone: str | None = None,
    ) -> TableT:
        """Returns the counts of labels by hour, like `imgpipeline summary label-counts`.

        Args:
            day: One day of the time zone. Without any day: all days.
            source: Count only this source, or these.
            label: Count only this label, or these. A group that was observed without it has a row with count 0.
            by: Group by these instead of `day`, `hour` and `label`: some of `day`, `hour`, `source`, `label`. The
                column `distinct_frames` exists only when grouping by `label`, or for one label.
            timezone: IANA name of the time zone of days and hours. Default: `IMGPIPELINE_TIMEZONE`.
        """
        choice = LabelChoice(read_names(source), read_names(label), read_names(by))
        return self._summary("label_counts", (day, from_day, to_day), timezone, choice)

    def label_totals(
        self,
        day: Day | None = None,
        *,
        from_day: Day | None = None,
        to_day: Day | None = None,
        source: Names | None = None,
        label: Names | None = None,
        by: Names | None = None,
        timezone: str | None = None,
    ) -> TableT:
        """Returns the total counts of labels, the most frequent first; arguments as `label_counts`."""
        choice = LabelChoice(read_names(source), read_names(label), read_names(by))
        return self._summary("label_totals", (day, from_day, to_day), timezone, choice)

    def hours(
        self,
        day: Day | None = None,
        *,
        from_day: Day | None = None,
        to_day: Day | None = None,
        timezone: str | None = None,
    ) -> TableT:
        """Returns frames and detections by hour of the day, 0 to 23; arguments as `label_counts`."""
        return self._summary("hours", (day, from_day, to_day), timezone)

    def sizes(
        self,
        day: Day | None = None,
        *,
        from_day: Day | None = None,
        to_day: Day | None = None,
        timezone: str | None = None,
    ) -> TableT:
        """Returns a histogram of image sizes by powers of two; arguments as `label_counts`."""
        return self._summary("sizes", (day, from_day, to_day), timezone)

    def sources(
        self,
        day: Day | None = None,
        *,
        from_day: Day | None = None,
        to_day: Day | None = None,
        timezone: str | None = None,
    ) -> TableT:
        """Returns the activity of each source; arguments as `label_counts`."""
        return self._summary("sources", (day, from_day, to_day), timezone)

    def image(self, day: Day, frame_id: str) -> "npt.NDArray[np.uint8]":
        """Returns the image of a frame as an RGB array: uint8 of shape (height, width, 3), upright.

        Args:
            day: The frame's UTC day.
            frame_id: The frame; unique within its day.

        Raises:
            ConfigurationError: There is no such day or frame.
            PermanentError: The image is gone, may not be read, or cannot be decoded.
        """
        from imgpipeline.lake.query.images import as_rgb, read_image  # noqa: PLC0415 - loads OpenCV

        return as_rgb(read_image(self._open(), self._settings, parse_day(day, ARGUMENTS.day), frame_id))

    def preview(self, day: Day, frame_id: str, *, min_confidence: float = 0.0) -> "npt.NDArray[np.uint8]":
        """Returns the image of a frame with its detections drawn on it, in the format of `image`.

        Args:
            day: The frame's UTC day.
            frame_id: The frame; unique within its day.
            min_confidence: Leave out detections with a lower confidence, 0 to 1.

        Raises:
            ConfigurationError: There is no such day or frame.
            PermanentError: The image is gone, may not be read, or cannot be decoded.
        """
        from imgpipeline.lake.query.images import as_rgb, draw_preview  # noqa: PLC0415 - loads OpenCV

        wanted_day = parse_day(day, ARGUMENTS.day)
        drawn = draw_preview(self._open(), self._settings, wanted_day, frame_id, min_confidence=min_confidence)
        return as_rgb(drawn)

    def track_preview(self, track_id: str) -> "npt.NDArray[np.uint8]":
        """Returns a track's best image, the largest and sharpest, with the object drawn on it, as an RGB array.

        Raises:
            ConfigurationError: There is no such track.
            PermanentError: The image is gone, may not be read, or cannot be decoded.
        """
        from imgpipeline.lake.query.images import as_rgb, draw_track  # noqa: PLC0415 - loads OpenCV

        return as_rgb(draw_track(self._open(), self._settings, track_id))

    def explain(
        self,
        day: Day,
        label: str,
        *,
        hour: int | None = None,
        source: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Explanation:
        """Traces a count to its detections, frames and segments, like `imgpipeline explain`.

        Args:
            day: The UTC day.
            hour: The hour of the day (UTC), 0 to 23: a number of `label_counts`. Default: the whole day, a number of
                `label_totals`.
            source: Only detections of this source.
            progress: Called with the number of detections found in their segments, and of all detections.

        Raises:
            ConfigurationError: There is no such number; the message names existing ones.
            LedgerError: Number, detections and segments disagree.
        """
        number = NumberId(parse_day(day, ARGUMENTS.day), read_hour(hour), label, source)
        store = self._open()
        with open_lake(store, settings=self._settings, days=[number.day]) as lake:
            return explain(lake, store, number, self._settings, progress=progress)

    def _summary(
        self,
        name: str,
        days: tuple[Day | None, Day | None, Day | None],
        timezone: str | None,
        choice: LabelChoice | None = None,
    ) -> TableT:
        settings = self._settings
        if timezone is not None:
            settings = settings.model_copy(update={"timezone": read_timezone(timezone)})
        span = self._span(*days, is_local=settings.timezone != "UTC")
        found = summarise(self._open(), settings, name, span, choice)
        for day, models in found.mixed_models.items():
            said = f"On {day} more than one model or threshold was in use: {', '.join(models)}."
            warnings.warn(said, UserWarning, stacklevel=3)
        return self._convert(in_timezone(found.table, settings.timezone))


def open_arrow_lake(settings: Settings) -> Lake[pa.Table]:
    """Opens a store with Arrow tables, for commands. Creates a missing folder."""
    return Lake(open_store(settings), settings, lambda table: table)


def read_names(given: Names | None) -> tuple[str, ...]:
    """Returns one name or several as a tuple; empty for None."""
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)


def read_status(given: str | None) -> FrameStatus | None:
    """Returns a frame's status."""
    if given is not None and given not in set(FrameStatus):
        raise UsageError(f"status is {given!r}.", next_step=f"give one of {', '.join(FrameStatus)}")
    return None if given is None else FrameStatus(given)


def read_limit(given: int | None) -> int | None:
    """Returns the most rows to return; None: all."""
    if given is not None and given < 1:
        raise UsageError(f"limit is {given}.", next_step="give a number from 1, or None for all")
    return given


def read_hour(given: int | None) -> int | None:
    """Returns an hour of the day; None: the whole day."""
    if given is not None and not 0 <= given <= 23:
        raise UsageError(f"hour is {given}.", next_step="give an hour from 0 to 23")
    return given


def read_timezone(given: str) -> str:
    """Returns the name of a time zone."""
    try:
        return check_timezone(given)
    except ValueError as error:
        raise UsageError(f"timezone: {error}.", next_step="give an IANA name such as Asia/Kolkata") from None


def check_folder(store_url: str) -> None:
    """Raises ConfigurationError if a folder does not exist, since a mistyped name is not an empty store."""
    parts = urlsplit(store_url)
    if parts.scheme == "file" and not Path(unquote(parts.path)).is_dir():
        raise ConfigurationError(
            f"There is no store at {store_url}.",
            next_step="give the URL or folder of a store to Lake.open(), or set IMGPIPELINE_STORE_URL",
        )


_HUGE = pa.decimal128(38, 0)


def distinct_names(columns: Sequence[str]) -> list[str]:
    """Returns column names that are unique as keys: `n, n` becomes `n, n_1`."""
    names: list[str] = []
    for column in columns:
        candidates = (column if number == 0 else f"{column}_{number}" for number in count())
        names.append(next(name for name in candidates if name not in names))
    return names


def tidy(table: pa.Table) -> pa.Table:
    """Makes column names unique and whole numbers int64.

    DuckDB's `sum` of whole numbers is a HUGEINT, which Arrow shows as a decimal. Columns that do not fit int64 stay so.
    """
    table = table.rename_columns(distinct_names(table.column_names))
    for place, field in enumerate(table.schema):
        if field.type == _HUGE:
            try:
                column = table.column(place).cast(pa.int64())
            except pa.ArrowInvalid:
                continue
            table = table.set_column(place, field.name, column)
    return table


def in_timezone(table: pa.Table, name: str) -> pa.Table:
    """Returns the table with the same instants shown in a time zone."""
    fields = [
        pa.field(field.name, pa.timestamp(field.type.unit, tz=name)) if pa.types.is_timestamp(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def to_pandas(table: pa.Table) -> "pd.DataFrame":
    """Returns a DataFrame whose types do not depend on the rows.

    Whole numbers are nullable (`Int64`), days are `datetime64` without a time zone, times have one, and maps are dicts.
    """
    import pandas as pd  # noqa: PLC0415 - loads slowly, and commands do not need it

    kinds: dict[Any, Any] = {
        pa.int8(): pd.Int8Dtype(),
        pa.int16(): pd.Int16Dtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.uint8(): pd.UInt8Dtype(),
        pa.uint16(): pd.UInt16Dtype(),
        pa.uint32(): pd.UInt32Dtype(),
        pa.uint64(): pd.UInt64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
    }
    frame: pd.DataFrame = table.to_pandas(types_mapper=kinds.get, date_as_object=False, maps_as_pydicts="strict")
    return frame
