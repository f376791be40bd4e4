"""Messages with `video_id` and `frame_id` only, whose paths a table of PostgreSQL has."""

import threading
from contextlib import closing
from datetime import UTC, datetime
from uuid import uuid4

import psycopg2
import pytest
from pydantic import SecretStr

from imgpipeline.contracts.outcomes import DeadLetter, Frame
from imgpipeline.contracts.records import KafkaRecord
from imgpipeline.detect.frame_paths import FramePaths
from imgpipeline.detect.work import FrameWork
from imgpipeline.errors import ConfigurationError, DeadLetterCode, TransientError
from imgpipeline.objectstore import ImageReader
from imgpipeline.settings import load_settings
from imgpipeline.vision.detector import load_detector
from imgpipeline_tests.detect.conftest import jpeg, message
from imgpipeline_tests.servers.ports import LOOPBACK, free_port

NOW = datetime(2026, 3, 1, 13, tzinfo=UTC)


@pytest.fixture
def database(postgres) -> str:
    """A database with the classic table and one frame."""
    url = postgres.create_database(f"frames_{uuid4().hex[:8]}")
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE frames (frame_id text, video_id text, timestamp timestamptz, path text)")
        cursor.execute("INSERT INTO frames VALUES ('frame_00007', 'gate', now(), 'images/seven.jpg')")
    return url


def paths(url: str) -> FramePaths:
    return FramePaths(SecretStr(url))


def test_a_message_without_a_path_gets_it_from_the_table(database, memory):
    memory.put("images/seven.jpg", jpeg())
    settings = load_settings(store_url="file:///unused", frames_database=database)
    work = FrameWork(settings, ImageReader(memory, settings), load_detector("demo", threads=1), lambda: NOW)

    def outcome(frame_id: str):
        value = message(video_id="gate", frame_id=frame_id, image_path=None, source=None, frame_number=None)
        return work.work(KafkaRecord("frames", 0, 0, 1772366400000, b"gate", value, ()))

    found, missing = outcome("frame_00007"), outcome("frame_00008")
    assert isinstance(found, Frame)
    assert (found.source_image_path, found.frame_number) == ("images/seven.jpg", 7)
    assert isinstance(missing, DeadLetter)
    assert missing.code is DeadLetterCode.OBJECT_NOT_FOUND
    assert "'frame_00008'" in missing.message


def test_many_threads_share_the_lookup(database):
    lookup, found = paths(database), []
    given = {"video_id": "gate", "frame_id": "frame_00007"}
    threads = [threading.Thread(target=lambda: found.append(lookup.fill(given.__getitem__))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == ["images/seven.jpg"] * 8


def test_a_database_that_is_away_is_transient_and_one_without_the_table_is_not(postgres):
    with pytest.raises(TransientError) as away:
        paths(f"postgresql://test:secret-canary@{LOOPBACK}:{free_port()}/site").fill(str)
    assert "canary" not in str(away.value)
    with pytest.raises(ConfigurationError, match="needs a table frames"):
        paths(postgres.url).fill(str)


def test_a_lost_connection_is_opened_again(database, postgres):
    lookup = paths(database)
    given = {"video_id": "gate", "frame_id": "frame_00007"}
    lookup.fill(given.__getitem__)
    with closing(psycopg2.connect(postgres.url)) as connection, connection.cursor() as cursor:
        name = database.rpartition("/")[2]
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
    with pytest.raises(TransientError):
        lookup.fill(given.__getitem__)
    assert lookup.fill(given.__getitem__) == "images/seven.jpg"
