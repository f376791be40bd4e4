"""Days and hours of a time zone, compared with pandas: half and quarter hours, and days on which the clock changes."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.query.summaries import LabelChoice, summarise
from imgpipeline.lake.sessions.local_time import create_time_macros, hours_of, in_zone, local_days
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.lake.storage.engine import Engine, open_engine
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.lake.days.test_summary_numbers import build_day
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import NOON, append, dead_letter, write_chain

SETTINGS = Settings(_env_file=None)
CHANGES = {
    "half hour": ("Asia/Kolkata", date(2026, 1, 9)),
    "quarter hour": ("Asia/Kathmandu", date(2026, 1, 9)),
    "25 hours": ("Europe/Berlin", date(2026, 10, 25)),
    "23 hours": ("America/New_York", date(2026, 3, 8)),
    "half an hour back": ("Australia/Lord_Howe", date(2026, 4, 5)),
    "a minute after midnight": ("America/St_Johns", date(2010, 11, 7)),
    "no midnight": ("America/Sao_Paulo", date(2018, 11, 4)),
    "quarter hour, summer time": ("Pacific/Chatham", date(2026, 9, 27)),
}
"""Days with difficult local times, by reason."""
cases = pytest.mark.parametrize(("zone", "day"), CHANGES.values(), ids=list(CHANGES))
stored_cases = pytest.mark.parametrize(
    ("zone", "day"),
    [
        pytest.param(*case, id=why, marks=[] if why in {"half hour", "25 hours"} else [pytest.mark.slow])
        for why, case in CHANGES.items()
    ],
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with open_engine(memory=None) as opened:
        yield opened


@pytest.mark.medium
@given(
    st.sampled_from(
        [*CHANGES.values(), ("Pacific/Apia", date(2011, 12, 30)), ("Africa/Casablanca", date(2026, 3, 22))]
    ),
    st.lists(st.integers(-2 * 86_400 * 10**6, 3 * 86_400 * 10**6), min_size=1, max_size=20),
)
def test_sql_and_pandas_have_the_same_local_time(engine, case, places):
    zone, day = ZoneInfo(case[0]), case[1]
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    instants = [midnight + timedelta(microseconds=place) for place in places]
    create_time_macros(engine, local_days(zone, day - timedelta(days=2), day + timedelta(days=3)))
    rows = engine.run(
        "SELECT local_time(t), local_day(t), local_hour(t) FROM (SELECT unnest($t) AS t)", {"t": instants}
    )
    for (time, local_day, start), at in zip(rows, pd.DatetimeIndex(instants).tz_convert(case[0]), strict=True):
        assert (time, local_day) == (at.tz_localize(None).to_pydatetime(), at.date())
        shown = in_zone(start, zone)
        assert (shown.hour, shown.date(), shown.utcoffset()) == (at.hour, at.date(), at.utcoffset())
        assert start <= at < start + timedelta(hours=1)


@cases
def test_the_hours_of_a_day_are_those_that_a_clock_shows(zone, day):
    """By going through three days minute by minute."""
    noon = pd.Timestamp(day, tz="UTC")
    minutes = pd.date_range(noon - timedelta(days=1), noon + timedelta(days=2), freq="min").tz_convert(zone)
    shown = list(dict.fromkeys((at.hour, at.utcoffset()) for at in minutes if at.date() == day))
    hours = hours_of(local_days(ZoneInfo(zone), day, day), day)
    assert [(hour.hour, hour.offset) for hour in hours] == shown
    assert [hour.is_repeated for hour in hours] == [[h for h, _ in shown].count(h) > 1 for h, _ in shown]


def times_around(day: date) -> list[datetime]:
    """Return a time every 19 minutes of three days and a half."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return [midnight + timedelta(minutes=19 * n + 1, seconds=n % 50) for n in range(-130, 190)]


@pytest.fixture
def around(memory: ObjectStore, zone: str, day: date) -> ObjectStore:
    """Days of two cameras: of the first ones tables are built, of one of them also summaries; the others are behind."""
    frames = [
        seen(place, ["car", "dog", "car"][: place % 4], time.date(), timestamp=time, source=("gate", "road")[place % 2],
             frame_id=f"{place:032x}")
        for place, time in enumerate(times_around(day))
    ]  # fmt: skip
    made = write_chain(memory, frames[:200])
    rebuild_day(memory, day - timedelta(days=1), now=NOON)
    build_day(memory, day)
    append(made, [*frames[200:], dead_letter(len(frames), day)])
    return memory


def detections(store: ObjectStore, zone: str) -> pd.DataFrame:
    """Read the detections that a reader sees now, with local times by pandas."""
    with open_lake(store, settings=SETTINGS, summaries=["label_timestamps"]) as lake:
        rows = lake.query("SELECT source, label, unnest(timestamps) AS t FROM label_timestamps").rows
    found = pd.DataFrame(rows, columns=["source", "label", "t"])
    local = pd.DatetimeIndex(found["t"]).tz_convert(zone)
    found["day"] = local.date
    found["hour"] = [f"{at:%Y-%m-%dT%H}:00:00{at.isoformat()[-6:]}" for at in local]
    return found


@pytest.mark.medium
@stored_cases
def test_local_days_and_hours_are_those_of_pandas(around, zone, day):
    """Over all days, and of one local day out of its neighbouring UTC partitions."""
    found = detections(around, zone)
    settings = SETTINGS.model_copy(update={"timezone": zone})
    only = Span(day, day)
    for span, groups in ((Span(), ["day", "hour", "label"]), (only, ["hour", "source"]), (only, ["source", "label"])):
        wanted = found if span.is_all else found[found["day"] == day]
        answer = summarise(around, settings, "label_counts", span, LabelChoice(by=tuple(groups))).answer
        counted = {
            tuple(value.isoformat() if isinstance(value, datetime) else value for value in row[: len(groups)]): count
            for row in answer.rows
            for count in [row[len(groups)]]
        }
        assert counted == wanted.groupby(groups).size().to_dict()
    check_frames(around, zone, day)


def check_frames(store: ObjectStore, zone: str, day: date) -> None:
    local = pd.DatetimeIndex(times_around(day)).tz_convert(zone)
    frames = pd.DataFrame({"day": local.date, "hour": local.hour, "source": ["gate", "road"] * 160})
    frames = frames[frames["day"] == day]
    settings = SETTINGS.model_copy(update={"timezone": zone})
    hours = summarise(store, settings, "hours", Span(day, day)).answer.rows
    assert {row[0]: row[1] for row in hours if row[1]} == frames.groupby("hour").size().to_dict()
    sources = summarise(store, settings, "sources", Span(day, day)).answer
    rows = [row for row in (dict(zip(sources.columns, row, strict=True)) for row in sources.rows) if row["frames"]]
    assert {row["source"]: row["frames"] for row in rows} == frames.groupby("source").size().to_dict()
    assert {row["first_seen"].date() for row in rows} == {day}


@pytest.mark.medium
def test_stored_summaries_serve_zones_of_whole_hours(folder, tmp_path):
    """The tables of the day are fetched only for zones with half hours."""
    write_chain(folder, [seen(0, ["car"])])
    build_day(folder, date(2026, 1, 9))
    for zone, fetched in (("Europe/Berlin", 2), ("Asia/Kolkata", 4)):
        settings, cache = SETTINGS.model_copy(update={"timezone": zone}), tmp_path / zone.replace("/", "-")
        found = summarise(folder, settings, "label_counts", Span(), LabelChoice(by=("label",)), cache_dir=cache)
        assert found.answer.rows[0][:2] == ("car", 1)
        assert len(list((cache / "objects").iterdir())) == fetched
