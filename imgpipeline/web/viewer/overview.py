"""The figures of the overview page: sources now, and counts and health of one day."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from imgpipeline.errors import TransientError
from imgpipeline.events.alerts.listing import ListedAlert, list_alerts
from imgpipeline.lake.build.stale_days import days_behind
from imgpipeline.lake.quality.day_verdicts import StoredVerdict, read_verdict
from imgpipeline.lake.query.source_status import SourceStatus
from imgpipeline.lake.query.summaries import ask_session
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.web.viewer.answers import counts_of, statuses_of, utc_days_of
from imgpipeline.web.viewer.site import ViewedSite

_SHOWN_ALERTS = 5
_UNIQUE = "SELECT label, CAST(sum(new_objects) AS BIGINT) FROM unique_totals WHERE day = ? GROUP BY label"


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One label of the table of counts."""

    label: str
    """Class name."""
    hours: Mapping[int, int]
    """Detections by hour of the day; hours without any are missing."""
    unique: int | None
    """Different objects of the UTC day; None while it has no tracks."""

    @property
    def count(self) -> int:
        """Detections of the day."""
        return sum(self.hours.values())


@dataclass(frozen=True, slots=True)
class Overview:
    """What the page shows of a day."""

    day: date
    """The day, in the session's time zone."""
    frames: int
    """Frames, gated ones included."""
    gated: int
    """Frames that no detector looked at."""
    dead_letters: int
    """Records that could not become frames."""
    observed_s: float
    """Seconds during which sources delivered frames, summed over sources."""
    labels: tuple[LabelRow, ...]
    """The most frequent first."""
    sources: tuple[SourceStatus, ...]
    """How the sources are now, by name."""

    @property
    def detections(self) -> int:
        """Detections that the summaries count."""
        return sum(row.count for row in self.labels)

    @property
    def most_in_an_hour(self) -> int:
        """The largest number of the table, at least 1."""
        return max((count for row in self.labels for count in row.hours.values()), default=1)

    @property
    def unique(self) -> int | None:
        """Different objects of the UTC day; None while it has no tracks."""
        known = [row.unique for row in self.labels if row.unique is not None]
        return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """What only the store knows, not the tables."""

    verdicts: Mapping[date, StoredVerdict | None]
    """What the last audit said of the UTC days that hold something of the day; None for one that was not audited."""
    alerts: tuple[ListedAlert, ...]
    """The latest alerts, the latest first."""
    days_behind: Mapping[date, str]
    """Days that a build would bring forward, with the reason, sorted."""


def read_overview(site: ViewedSite, lake: LakeSession, day: date) -> Overview:
    """Reads the figures.

    Args:
        site: Names store and settings.
        lake: The session.
        day: The day, in the session's time zone.

    Raises:
        PermanentError: Memory or disk of this machine do not suffice.
        TransientError: The store does not answer.
    """
    sources = ask_session(lake, "sources", [day]).table.to_pylist()
    return Overview(
        day=day,
        frames=sum(row["frames"] for row in sources),
        gated=sum(row["gated"] for row in sources),
        dead_letters=sum(row["dead_letters"] for row in sources),
        observed_s=sum(row["observed_s"] or 0.0 for row in sources),
        labels=_labels(site, lake, day),
        sources=statuses_of(site, lake),
    )


def _labels(site: ViewedSite, lake: LakeSession, day: date) -> tuple[LabelRow, ...]:
    hours: dict[str, dict[int, int]] = {}
    for one in counts_of(site, lake, [day]):
        of_label = hours.setdefault(one.label, {})
        of_label[one.hour.hour] = of_label.get(one.hour.hour, 0) + one.count
    unique = dict(lake.query(_UNIQUE, [day]).rows)
    rows = (LabelRow(label, counts, unique.get(label, 0) if unique else None) for label, counts in hours.items())
    return tuple(sorted(rows, key=lambda row: (-row.count, row.label)))


def read_health(site: ViewedSite, lake: LakeSession, day: date) -> StoreHealth | None:
    """Reads what the store says of a day and of the pipeline; None while it does not answer.

    Args:
        site: Names the store.
        lake: The session, for which the answer is remembered.
        day: The day, in the session's time zone.
    """
    if isinstance(site.lake.state.problem, TransientError):
        return None  # the page says that the store is away; it need not wait for it again

    def read() -> StoreHealth:
        alerts, _ = list_alerts(site.store, limit=_SHOWN_ALERTS)
        verdicts = {one: read_verdict(site.store, one) for one in utc_days_of(lake, [day])}
        return StoreHealth(verdicts, tuple(alerts), dict(sorted(days_behind(site.store).items())))

    try:
        return site.lake.remembered(lake, ("health", day), read)
    except TransientError:
        return None  # it went away just now
