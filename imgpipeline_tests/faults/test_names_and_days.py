"""Faults 27, 28 and 30: strange names come through everywhere, and a day has its frames while they come in."""

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import CorruptRecordError

from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.previews import show_table
from imgpipeline.errors import TransientError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.ledger.reading import fix_ends
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_consumer, open_producer
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.detect.conftest import START, LaneUnderTest, jpeg, message, running
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.servers.announcing import Announcer
from imgpipeline_tests.servers.waiting import wait_until

NAMES = {
    "emoji": "cam 😀👩‍🚒",
    "newline": "north\ngate\r\t",
    "quotes": 'it\'s "the" `gate`',
    "right to left": "\u05e9\u05e2\u05e8 \u202e\u05e6\u05e4\u05d5\u05df \u0628\u0648\u0627\u0628\u0629",
    "sql": "'; DROP TABLE frames; --",
    "markup": "<script>alert(1)</script> | [x](y) &amp;",
    "line separators": "a\u2028b\u0085c",
    "combining": "é vs e\u0301",
}


@pytest.mark.fault(27)
def test_fault_27_names_of_any_script_come_through_key_jsonl_parquet_sql_and_the_ui(lane, tmp_path):
    expected = []
    for number, name in enumerate(NAMES.values()):
        path = lane.put_image("images/" + "".join(c for c in name if c.isprintable() and c not in "\\/") + ".jpg")
        value = message(source=name, image_path=path, frame_number=number, attributes={name: name})
        lane.send(value, key=name.encode())
        expected.append((name, path, json.dumps({name: name})))
    lane.send(jpeg(), key="tür 😀\n".encode(), headers={"content-type": b"image/jpeg", "source": "tür 😀\n".encode()})
    lane.follow()

    held = check(lane.settings)
    stored = held.frames.pop()
    assert stored["source"] == "tür 😀\n"
    assert lane.store.head(stored["source_image_path"]) is not None
    rows = [(f["source"], f["source_image_path"], json.dumps(f["attributes"])) for f in held.frames]
    assert rows == expected
    asked = "SELECT source, source_image_path, attributes FROM {} WHERE frame_number IS NOT NULL ORDER BY frame_number"
    with open_lake(lane.store, cache_dir=tmp_path / "cache") as session:
        assert as_json(session.query(asked.format("frames")).rows) == expected
    (tmp_path / "frames.parquet").write_bytes(lane.store.get(f"frames/day={START.date()}/frames.parquet"))
    parquet = f"read_parquet('{tmp_path}/frames.parquet')"
    assert as_json(duckdb.sql(asked.format(parquet)).fetchall()) == expected
    check_the_ui([name for name, _, _ in expected])


def as_json(rows: list[tuple[Any, ...]]) -> list[tuple[str, str, str]]:
    return [(source, path, json.dumps(json.loads(attributes))) for source, path, attributes in rows]


def check_the_ui(names: list[str]) -> None:
    """A name ends neither its cell nor its row, and is no markup."""
    text = show_table(("name", "n"), [(name, 1) for name in names]).value
    header, line, *rows = (text or "").split("\n")
    assert len(rows) == len(names)
    assert {row.count("|") for row in [header, line, *rows]} == {3}
    assert not set(text or "") & set("<>[]`\\")


@pytest.mark.fault(27)
def test_fault_27_bytes_that_are_not_utf_8_are_dead_letters_wherever_they_stand(lane):
    path = lane.put_image("images/camera/one.jpg")
    lane.send(message(image_path=path, frame_number=0), key=b"\xff\xfe")  # a key may be anything
    lane.send(b'{"image_path": "\xff.jpg"}', b'{"image_path": "\\ud800.jpg"}', message(image_path="a\nb.jpg"))
    lane.send(message(image_path="a\x00b.jpg"), message(image_path=path, source="a\x00b"))
    lane.send(jpeg(), headers={"source": b"\xff\xfe"})
    lane.follow()
    held = check(lane.settings)
    assert held.codes == {"INVALID_MESSAGE": 5, "PATH_NOT_ALLOWED": 1}
    assert [frame["source"] for frame in held.frames] == ["camera"]
    assert "header source" in held.dead_letters[-1]["message"]
    for letter in held.dead_letters:
        letter["message"].encode()


@pytest.mark.fault(28)
def test_fault_28_a_time_outside_the_window_is_a_dead_letter_and_none_is_that_of_the_record(lane):
    """And never the clock's: the record is from another day."""
    path, record_time = lane.put_image("images/camera/one.jpg"), datetime(2026, 2, 3, 4, 5, 6, 789_000, UTC)
    soon = utc_now() + timedelta(minutes=30)
    late = utc_now() + timedelta(minutes=90)
    times = ["1970-01-01T00:00:00Z", "2099-01-01T00:00:00Z", 0, late.isoformat(), soon.isoformat(), None, ""]
    with open_producer(lane.settings) as producer:
        for number, time in enumerate(times):
            value = message(image_path=path, frame_number=number, timestamp=time)
            at = {"timestamp_ms": round(record_time.timestamp() * 1000)}
            producer.send(lane.settings.kafka_topic, value, key=b"camera", **at)
        producer.flush()
    lane.follow()

    held = check(lane.settings)
    assert held.codes == {"TIMESTAMP_OUT_OF_RANGE": 4}
    assert {letter["day"] for letter in held.dead_letters} == {"2026-02-03"}
    shown = [datetime.fromisoformat(frame["timestamp"]) for frame in held.frames]
    assert shown == [soon, record_time, record_time]


def announce(lane: LaneUnderTest, count: int, *, start: datetime, first: int = 0) -> None:
    path = "images/camera/one.jpg"
    with Announcer(lane.settings) as announcer:
        for number in range(first, first + count):
            announcer.announce(FrameMessage("camera", path, start + timedelta(seconds=number), frame_number=number))


def build(lane: LaneUnderTest, day: date) -> None:
    rebuild_day(lane.store, day, now=utc_now())
    build_summary(lane.store, "label_counts", day, settings=Settings(), now=utc_now())


ROUNDS = 6


@pytest.mark.fault(30)
@pytest.mark.slow
def test_fault_30_a_day_that_is_rebuilt_while_the_stream_writes_it_has_every_frame_once(lane, tmp_path):
    """Frames come in one by one, two builders rebuild their day without pause, and a reader counts meanwhile."""
    lane.put_image("images/camera/one.jpg")
    live = lane.with_settings(commit_interval_s=0.05, linger_s=60.0, segment_max_records=5)
    today = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
    counts: list[tuple[int, int]] = []
    stop = threading.Event()

    def arrived() -> int:
        return sum(end.offset for end in fix_ends(live.store).values())

    with building(live, today.date()) as built, running(lambda: live.follow(stop=stop)):
        for number in range(ROUNDS):
            announce(live, 25, start=today, first=25 * number)
            with open_lake(live.store, cache_dir=tmp_path / "cache") as session:
                [(rows, names)] = session.query("SELECT count(*), count(DISTINCT frame_id) FROM frames").rows
                counts.append((rows, names))
        try:
            wait_until(lambda: arrived() == 25 * ROUNDS, limit_s=60, what="all frames in the ledger")
        finally:
            stop.set()
    assert all(rows == names for rows, names in counts), "a reader has seen a frame twice"
    assert [rows for rows, _ in counts] == sorted(rows for rows, _ in counts), "a reader has seen frames vanish"
    assert len(built) > ROUNDS
    build(live, today.date())
    assert len(check(live.settings).frames) == 25 * ROUNDS


@contextlib.contextmanager
def building(lane: LaneUnderTest, day: date) -> Iterator[list[int]]:
    """Rebuild a day in two threads until the context ends; give the number of frames of each build.

    A builder that loses its race eight times says so and is started again, as Dagster's retries do: of two that never
    pause, one loses every second race, so eight in a row are rare and not wrong.
    """
    done, built, failures = threading.Event(), list[int](), list[BaseException]()

    def work() -> None:
        while not done.is_set():
            try:
                built.append(rebuild_day(lane.store, day, force=True, now=utc_now()).of("frames").rows)
            except TransientError as error:
                if "lost the race against other builds" not in str(error):
                    failures.append(error)
                    return
            except BaseException as error:  # noqa: BLE001 - the test fails by it
                failures.append(error)
                return

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield built
    finally:
        done.set()
        for thread in threads:
            thread.join(60)
    assert failures == []


ODD = b"caf\xe9\xff"


class RawName(str):
    """A header's name that goes out as the bytes `ODD`, whatever the client makes of names."""

    __slots__ = ()

    def encode(self, *_: Any, **__: Any) -> bytes:
        return ODD


def send_odd(lane: LaneUnderTest, values: Sequence[bytes], *, odd: set[int]) -> None:
    """Sends records in one compressed batch; those of `odd` have a header with such a name."""
    with open_producer(lane.settings, linger_ms=500, compression_type="gzip") as producer:
        for number, value in enumerate(values):
            headers = [("plain", b"1"), *([(RawName("odd"), b"2")] if number in odd else [])]
            producer.send(lane.settings.kafka_topic, value, key=b"camera", headers=headers)
        producer.flush()


@pytest.mark.fault(27)
def test_fault_27_a_header_name_that_is_not_utf_8_holds_up_neither_its_record_nor_the_neighbours(lane):
    path = lane.put_image("images/camera/one.jpg")
    good = [message(image_path=path, frame_number=number) for number in range(6)]

    send_odd(lane, [*good[:3], b"no message", *good[3:]], odd={1, 3, 6})
    report = lane.follow()

    assert (report.frames, report.dead_letters, report.lag) == (6, 1, 0)
    held = check(lane.settings)
    assert [frame["source_kafka_offset"] for frame in held.frames] == [0, 1, 2, 4, 5, 6]
    assert held.codes == {"INVALID_MESSAGE": 1}


@pytest.mark.fault(27)
def test_fault_27_other_consumers_of_the_process_keep_their_own_decoding(lane):
    send_odd(lane, [b"{}"], odd={0})
    topic = lane.settings.kafka_topic

    with open_consumer(lane.settings) as ours:
        partitions = [TopicPartition(topic, number) for number in ours.partitions_for_topic(topic)]
        ours.assign(partitions)
        ours.seek_to_beginning(*partitions)
        [[record]] = ours.poll(timeout_ms=20_000).values()
        assert [name for name, _ in record.headers] == ["plain", "caf\ufffd\ufffd"]

        servers = lane.settings.kafka_bootstrap_servers
        with contextlib.closing(KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")) as other:
            other.assign(partitions)
            with pytest.raises(CorruptRecordError, match="UnicodeDecodeError"):
                other.poll(timeout_ms=20_000)
