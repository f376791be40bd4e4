"""The questions of notebooks about tracks, unique objects, zones and lines: a part of `imgpipeline.Lake`."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic

from typing_extensions import TypeVar

from imgpipeline.lake.query.conditions import equal_to
from imgpipeline.lake.query.days import Day
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

AnswerT = TypeVar("AnswerT")


class TrackQuestions(ABC, Generic[AnswerT]):
    """Methods over the stored tracks and counts. Frames newer than a day's build are not in them."""

    _settings: Settings

    @abstractmethod
    def _open(self) -> ObjectStore:
        """Returns the object store."""

    @abstractmethod
    def sql(
        self, query: str, *, day: Day | None = None, from_day: Day | None = None, to_day: Day | None = None
    ) -> AnswerT:
        """Runs one query over all tables."""

    def tracks(
        self,
        day: Day | None = None,
        *,
        from_day: Day | None = None,
        to_day: Day | None = None,
        source: str | None = None,
        label: str | None = None,
    ) -> AnswerT:
        """Returns tracks by time: the columns of the table `tracks`, and `stay_s`.

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
    ) -> AnswerT:
        """Returns how many different objects were seen by hour, source and label; arguments as `tracks`.

        An object that is seen in two hours counts in both, so hours must not be added up: use the table
        `unique_totals` for the day.
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
    ) -> AnswerT:
        """Returns what stood in each zone by hour and label; arguments as `tracks`."""
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
    ) -> AnswerT:
        """Returns how often each line was crossed by hour, label and direction; arguments as `tracks`."""
        order = "hour, source, line, label, direction"
        return self._rows("SELECT * FROM line_crossings", order, (day, from_day, to_day), source, label)

    def track_preview(self, track_id: str) -> "npt.NDArray[np.uint8]":
        """Returns a track's best image, the largest and sharpest, with the object drawn on it, as an RGB array.

        Raises:
            ConfigurationError: There is no such track.
            PermanentError: The image is gone, may not be read, or cannot be decoded.
        """
        from imgpipeline.lake.query.images import as_rgb, draw_track  # noqa: PLC0415 - loads OpenCV

        return as_rgb(draw_track(self._open(), self._settings, track_id))

    def _rows(
        self,
        select: str,
        order: str,
        days: tuple[Day | None, Day | None, Day | None],
        source: str | None,
        label: str | None,
    ) -> AnswerT:
        day, from_day, to_day = days
        query = f"{select} WHERE {equal_to(source=source, label=label)} ORDER BY {order}"
        return self.sql(query, day=day, from_day=from_day, to_day=to_day)
