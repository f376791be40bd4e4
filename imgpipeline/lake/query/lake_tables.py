"""The base of `Lake`: SQL, sessions, and the methods that each return one stored table."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self

import pyarrow as pa
from typing_extensions import TypeVar

from imgpipeline.errors import ConfigurationError
from imgpipeline.lake.query.books import books_table, read_books
from imgpipeline.lake.query.days import ARGUMENTS, Day, Span, days_of, optional_day, read_span, unknown_day
from imgpipeline.lake.query.events import find_alerts, find_events
from imgpipeline.lake.query.lake_values import read_limit, tidy
from imgpipeline.lake.query.wanted_frames import equal_to
from imgpipeline.lake.sessions.session import LakeSession, open_lake
from imgpipeline.ledger import known_days
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

TableT = TypeVar("TableT", default="pd.DataFrame")


class LakeTables(Generic[TableT]):
    """Life cycle, SQL and stored tables of a `Lake`."""

    def __init__(self, store: ObjectStore, settings: Settings, convert: Callable[[pa.Table], TableT]) -> None:
        """Wraps an open store; use `Lake.open`.

        Args:
            store: The object store.
            settings: Settings of summaries and images.
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
