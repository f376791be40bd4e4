"""Every number of every summary, stored and live, equals a count in plain Python, whatever happened."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.notices import Account, Notice, NoticeKind
from imgpipeline.contracts.outcomes import DeadLetter, Frame, FrameStatus, Outcome, make_frame_id
from imgpipeline.errors import DeadLetterCode
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.days.summary_inputs import stored_key
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.examples import examples
from imgpipeline_tests.lake.samples import again, gated, seen
from imgpipeline_tests.lake.summary_oracle import Row, expected_rows
from imgpipeline_tests.ledger.samples import DAY, NOON, dead_letter, frame, write_chain

NEXT = DAY + timedelta(days=1)
BEGIN = datetime(2026, 1, 9, tzinfo=UTC)
SOURCES = ("cam-1", "Höfe 2/Ost", 'it\'s; -- "quoted"', "鸟🦜", "NULL")
MODELS = (("demo", "ab" * 32, 0.5), ("demo", "ab" * 32, 0.25), ("yolox-nano", "cd" * 32, 0.5), ("", "", None))
THRESHOLD = 0.6


def build_day(store: ObjectStore, day: date = DAY, chosen: Settings | None = None) -> None:
    """Build the tables and all summaries of a day."""
    rebuild_day(store, day, now=NOON)
    for name in SUMMARIES:
        build_summary(store, name, day, settings=chosen or Settings(), now=NOON)


def stored_rows(store: ObjectStore, name: str, folder: Path, day: date = DAY) -> list[Row]:
    """Read a stored summary by plain DuckDB."""
    path = folder / f"{name}.parquet"
    path.write_bytes(store.get(stored_key(name, day)))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(f"SELECT * FROM read_parquet('{path}', hive_partitioning = false)").fetchall()  # noqa: S608 - own path


def live_rows(store: ObjectStore, folder: Path, chosen: Settings, day: date = DAY) -> dict[str, list[Row]]:
    """Read all summaries of a day in a query session."""
    with open_lake(store, settings=chosen, cache_dir=folder / "cache", days=[day]) as session:
        return {
            name: session.query(f"SELECT * EXCLUDE (day) FROM {name} ORDER BY ALL NULLS LAST").rows  # noqa: S608 - own names
            for name in SUMMARIES
        }


def assert_same(found: list[Row], expected: list[Row], name: str) -> None:
    """Assert that rows are equal, means up to the last bits."""
    if name == "label_counts":
        assert [row[7] for row in found] == pytest.approx([row[7] for row in expected], abs=1e-12)
        found, expected = ([(*row[:7], *row[8:]) for row in rows] for rows in (found, expected))
    assert found == expected


def eventful() -> list[Outcome]:
    """Return what a day can hold: odd sources, both edges of the day, duplicates, replays, dead letters, imports."""
    last = BEGIN + timedelta(days=1, microseconds=-1)
    half = {"size_bytes": 1024, "brightness": 15.999, "sharpness": 0.5}
    unknown = dict.fromkeys(("processing_timestamp", "image_width", "image_height", "size_bytes", "brightness",
                             "sharpness", "confidence_threshold", "nms_threshold", "orientation"))  # fmt: skip
    return [
        seen(0, ["car", "car", "dog"], timestamp=BEGIN, source=SOURCES[1]),
        seen(1, ["car"], timestamp=last, source=SOURCES[1], processing_timestamp=last + timedelta(seconds=1.5)),
        seen(2, ["person"], timestamp=BEGIN - timedelta(microseconds=1)),
        seen(3, ["person"], timestamp=BEGIN + timedelta(days=1)),
        again(4, of=0, labels=["dog"], timestamp=BEGIN, source=SOURCES[1]),
        gated(5, **half),
        again(6, of=5, labels=["dog"], **half),
        gated(7, source=SOURCES[2], size_bytes=0),
        seen(8, ["dog"], frame_number=None, source=SOURCES[3], model_used="other", model_sha256="cd" * 32),
        dead_letter(9),
        replace(dead_letter(10), source=None, timestamp=None),
        replace(dead_letter(11), timestamp=NOON + timedelta(days=2), source=SOURCES[3]),
        dead_letter(12, NEXT),
        dead_letter(13, None),
        seen(14, ["car"], source=SOURCES[3], replay_of="frames/0/9", processing_timestamp=BEGIN),
        replace(seen(15, ["car"], source="import", model_used="", model_sha256="", frame_number=None), **unknown),
    ]


@pytest.mark.medium
@pytest.mark.parametrize("threshold", [0.0, 0.515])
def test_an_eventful_day(store, tmp_path, threshold):
    chosen = Settings(summary_threshold=threshold)
    write_chain(store, eventful()[:6], eventful()[6:])
    before = live_rows(store, tmp_path, chosen)
    build_day(store, chosen=chosen)
    after = live_rows(store, tmp_path, chosen)
    for name in SUMMARIES:
        expected = expected_rows(store, name, DAY, threshold)
        assert expected, name
        for found in (stored_rows(store, name, tmp_path), before[name], after[name]):
            assert_same(found, expected, name)


def test_a_day_with_dead_letters_only_still_has_its_rows(memory, tmp_path):
    write_chain(memory, [dead_letter(0), replace(dead_letter(1), source=None)])
    build_day(memory)
    assert [row[1:6] for row in stored_rows(memory, "frame_stats", tmp_path)] == [
        ("cam-1", 0, 0, 0, 1), (None, 0, 0, 0, 1),
    ]  # fmt: skip
    assert stored_rows(memory, "source_activity", tmp_path) == expected_rows(memory, "source_activity", DAY)
    assert stored_rows(memory, "label_counts", tmp_path) == []


@pytest.mark.medium
def test_an_hour_without_frames_has_a_row_if_the_source_reports_why(memory, tmp_path):
    at = BEGIN + timedelta(hours=9, minutes=55)
    first = Account(600, 0, gated=600, observed_s=480.0)
    write_chain(
        memory,
        [
            seen(0, source="yard", timestamp=BEGIN),
            seen(1, source="yard", timestamp=BEGIN + timedelta(seconds=20)),
            seen(2, source="yard", timestamp=BEGIN + timedelta(seconds=200)),
            Notice(3, NoticeKind.ACCOUNT, "gate", "s1", at, at + timedelta(minutes=10), account=first),
            Notice(
                4, NoticeKind.ACCOUNT, "gate", "s2", at, at + timedelta(minutes=1), account=Account(0, 0, observed_s=60)
            ),
            Notice(
                5, NoticeKind.OFFLINE, "gate", "s1", at + timedelta(hours=3), at + timedelta(hours=3), reason="cable"
            ),
        ],
    )
    build_day(memory)
    rows = {(row[0], row[1]): row for row in stored_rows(memory, "frame_stats", tmp_path)}
    observed = {(hour.hour, source): (row[2], *row[-2:]) for (hour, source), row in rows.items()}
    assert observed == {
        (0, "yard"): (3, 80.0, "gaps"),
        (9, "gate"): (0, 60 + 4 * 60 * 0.8, "accounts"),
        (10, "gate"): (0, 5 * 60 * 0.8, "accounts"),
        (12, "gate"): (0, 0.0, "accounts"),
    }
    build_summary(memory, "frame_stats", DAY, settings=Settings(observed_gap_s=10), now=NOON)
    assert stored_rows(memory, "frame_stats", tmp_path)[0][-2:] == (20.0, "gaps")


@pytest.mark.medium
def test_dead_letters_newer_than_the_stored_table_are_counted_once(memory, tmp_path):
    write_chain(memory, [dead_letter(0), seen(1)])
    build_day(memory)
    write_chain(memory, [dead_letter(2), gated(3)])
    rows = live_rows(memory, tmp_path, Settings())
    for name in SUMMARIES:
        assert_same(rows[name], expected_rows(memory, name, DAY), name)
    assert sum(row[5] for row in rows["frame_stats"]) == 2


instants = st.one_of(
    st.integers(0, 24 * 3600 * 10**6 - 1).map(lambda us: BEGIN + timedelta(microseconds=us)),
    st.sampled_from([BEGIN, BEGIN + timedelta(hours=7), BEGIN + timedelta(days=1, microseconds=-1)]),
    st.sampled_from([BEGIN - timedelta(microseconds=1), BEGIN + timedelta(days=1)]),
)
found = st.builds(
    Detection,
    label=st.sampled_from(["car", "dog", "traffic light", "CAR"]),
    class_id=st.just(0),
    confidence=st.integers(500_001, 10**6).map(lambda n: n / 10**6),
    box_xywh=st.just((1.0, 2.0, 3.0, 4.0)),
)
delays = st.one_of(
    st.integers(-10, 10), st.integers(0, 2**40), st.sampled_from([1, 15_625, 500_000, 999_999, 1_000_000, 2**31])
).map(lambda us: timedelta(microseconds=us))


@st.composite
def days(draw: st.DrawFn) -> list[Outcome]:
    """Return the outcomes of some offsets."""
    outcomes: list[Outcome] = []
    for offset in range(draw(st.integers(1, 14))):
        time, source = draw(instants), draw(st.sampled_from(SOURCES))
        kind = draw(st.integers(0, 7))
        if kind < 2:
            outcomes.append(_letter(draw, offset, source) if kind else _notice(draw, offset, time, source))
            continue
        earlier = [each for each in outcomes if isinstance(each, Frame)]
        if earlier and draw(st.booleans()):
            again_of = draw(st.sampled_from(earlier))
            time, source, number = again_of.timestamp, again_of.source, again_of.frame_number
        else:
            number = draw(st.none() | st.integers(0, 3))
        outcomes.append(_frame(draw, offset, time, source, number))
    return outcomes


def _letter(draw: st.DrawFn, offset: int, source: str) -> DeadLetter:
    time = draw(st.none() | instants)
    listed = draw(st.sampled_from([DAY, None, NEXT]))
    known = source if draw(st.booleans()) else None
    return DeadLetter(offset, DeadLetterCode.INVALID_MESSAGE, "no JSON", time, listed, known, None, 3, "AAEC")


def _notice(draw: st.DrawFn, offset: int, start: datetime, source: str) -> Notice:
    midnight = datetime.combine(start.date() + timedelta(days=1), datetime.min.time(), UTC)
    end = min(start + timedelta(microseconds=draw(st.sampled_from([0, 1, 10**6, 6 * 10**8, 10**10]))), midnight)
    if draw(st.booleans()):
        return Notice(offset, NoticeKind.OFFLINE, source, "s", start, start, reason="cable")
    account = Account(5, 5, observed_s=round(draw(st.floats(0, 1)) * (end - start).total_seconds(), 6))
    return Notice(offset, NoticeKind.ACCOUNT, source, "s", start, end, account=account)


def _frame(draw: st.DrawFn, offset: int, time: datetime, source: str, number: int | None) -> Frame:
    model, sha256, threshold = draw(st.sampled_from(MODELS))
    is_gated = draw(st.integers(0, 4)) == 0
    name = make_frame_id(source, time, f"{source}.jpg" if number is None else number)
    return replace(
        frame(offset, DAY, source),
        frame_id=name, timestamp=time, frame_number=number,
        processing_timestamp=time + draw(delays),
        image_width=draw(st.sampled_from([640, 1920])), image_height=draw(st.sampled_from([360, 480])),
        size_bytes=draw(st.one_of(st.integers(0, 5), st.integers(0, 2**34), st.sampled_from([2**20 - 1, 2**20]))),
        brightness=draw(st.floats(0, 255).map(lambda value: round(value, 3))),
        sharpness=draw(st.one_of(st.floats(0, 3), st.floats(0, 1e6)).map(lambda value: round(value, 3))),
        model_used=model, model_sha256=sha256, confidence_threshold=threshold,
        status=FrameStatus.GATED if is_gated else FrameStatus.PROCESSED,
        gate_reason="dark" if is_gated else None,
        detections=() if is_gated else tuple(draw(st.lists(found, max_size=4))),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.medium
@settings(max_examples=examples(4))
@given(outcomes=days(), cut=st.integers(0, 14))
def test_any_day_stored_and_live(tmp_path_factory, outcomes, cut):
    check_day(tmp_path_factory, outcomes, cut)


@pytest.mark.slow
@settings(max_examples=examples(30))
@given(outcomes=days(), cut=st.integers(0, 14))
def test_many_days_stored_and_live(tmp_path_factory, outcomes, cut):
    check_day(tmp_path_factory, outcomes, cut)


def check_day(tmp_path_factory: pytest.TempPathFactory, outcomes: list[Outcome], cut: int) -> None:
    """Assert all numbers of a day; the live ones come from a partly built day with newer segments."""
    folder, store = tmp_path_factory.mktemp("day"), open_memory_store()
    chosen = Settings(summary_threshold=THRESHOLD)
    if outcomes[:cut]:
        write_chain(store, outcomes[:cut])
        build_day(store, chosen=chosen)
    if outcomes[cut:]:
        write_chain(store, outcomes[cut:])
    live = live_rows(store, folder, chosen)
    build_day(store, chosen=chosen)
    for name in SUMMARIES:
        expected = expected_rows(store, name, DAY, THRESHOLD)
        assert_same(live[name], expected, name)
        assert_same(stored_rows(store, name, folder), expected, name)
