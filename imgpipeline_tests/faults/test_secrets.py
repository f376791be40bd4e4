"""Secrets that are planted in all secret settings are found nowhere afterwards: neither stored nor said.

Searched are the whole of DAGSTER_HOME (SQLite, compute logs, the daemon's log), every object of the store (segments and
Parquet unpacked), and the output of every command: as they are, as base64 at each alignment, and inside what is packed.
"""

import base64
import io
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard

from imgpipeline.objectstore import open_store
from imgpipeline.stream.connection import open_producer
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.defs.frames import announce_frames
from imgpipeline_tests.defs.site import MODULE, Site, ledger_end, make_site
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.s3_server import S3Server
from imgpipeline_tests.servers.waiting import wait_until

PASSWORD, KEY_ID, SECRET, TOKEN = (f"canary-{name}-3f7a91c2" for name in ("password", "keyid", "secret", "token"))
WRONG = "canary-wrong-3f7a91c2"
CANARIES = (PASSWORD, KEY_ID, SECRET, TOKEN, WRONG)
FRAMES = 3


def disguises(secret: str) -> Iterator[bytes]:
    """Yields a secret as it is, and what base64 makes of it behind 0, 1 or 2 other bytes."""
    yield secret.encode()
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + secret.encode())
        yield encoded[4 if shift else 0 : -4]


def found_in(data: bytes) -> list[str]:
    """Returns the secrets that are in some bytes."""
    return [secret for secret in CANARIES if any(disguise in data for disguise in disguises(secret))]


def unpacked(name: str, data: bytes) -> Iterator[bytes]:
    """Yields some stored bytes, and what is packed in them."""
    yield data
    if name.endswith(".zst"):
        yield zstandard.ZstdDecompressor().decompressobj().decompress(data)
    if name.endswith(".parquet"):
        file = pq.ParquetFile(io.BytesIO(data))
        yield repr((file.metadata.metadata, file.read().to_pylist())).encode()


def cells(database: Path) -> Iterator[bytes]:
    """Yields every value of a SQLite database, and those that are packed as Dagster packs its cursors unpacked."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in connection.execute(f'SELECT * FROM "{table}"'):  # noqa: S608 - its own tables
                for value in row:
                    data = value if isinstance(value, bytes) else str(value).encode()
                    yield data
                    try:
                        yield zlib.decompress(base64.b64decode(data))
                    except (ValueError, zlib.error):
                        continue


def leaks(home: Path, stored: Iterable[tuple[str, bytes]]) -> list[str]:
    """Returns where a secret is found below a folder or in stored objects."""
    found = []
    for path in home.rglob("*"):
        if path.is_file() and not path.is_symlink():
            parts = [path.read_bytes(), *(cells(path) if path.suffix == ".db" else ())]
            found += [f"{path}: {secret}" for part in parts for secret in found_in(part)]
    for key, data in stored:
        found += [f"{key}: {secret}" for part in unpacked(key, data) for secret in found_in(part)]
    return list(dict.fromkeys(found))


@pytest.fixture
def guarded_site(tmp_path: Path) -> Iterator[Site]:
    """A site whose broker and store want logins, which are canaries."""
    users = {"alice": PASSWORD}
    with (
        KafkaBroker(tmp_path / "kafka", listeners=("SASL_PLAINTEXT",), users=users) as broker,
        S3Server(tmp_path / "s3", access_key_id=KEY_ID, secret_access_key=SECRET) as s3,
    ):
        broker.create_topic("frames")
        variables = {
            **s3.create_bucket("frames").environment(),
            "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": broker.address("SASL_PLAINTEXT"),
            "IMGPIPELINE_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "IMGPIPELINE_KAFKA_SASL_MECHANISM": "PLAIN",
            "IMGPIPELINE_KAFKA_USERNAME": "alice",
            "IMGPIPELINE_KAFKA_PASSWORD": PASSWORD,
            "IMGPIPELINE_KAFKA_GROUP": "guarded",
            "IMGPIPELINE_LINGER_S": "1",
            "IMGPIPELINE_MODEL_THREADS": "1",
        }
        site = make_site(tmp_path / "dagster", variables)
        yield site
        site.stop()


def failing_runs(site: Site) -> Iterator[str]:
    """Yields the output of runs that fail: no topic, a wrong password, secret key or session token."""
    right = dict(site.variables)
    for wrong in (
        {"IMGPIPELINE_KAFKA_TOPIC": "absent"},
        {"IMGPIPELINE_KAFKA_PASSWORD": WRONG},
        {"AWS_SECRET_ACCESS_KEY": WRONG},
        {"AWS_SESSION_TOKEN": TOKEN},  # which this store takes from nobody
    ):
        site.variables = {**right, **wrong}
        done = site.run("dagster", "job", "execute", "-m", MODULE, "-j", "detect_frames", check=False)
        assert done.returncode != 0, done.stdout
        yield done.stdout + done.stderr
    yield said_by(site, "--verbose", "doctor")
    site.variables = right


def said_by(site: Site, *command: str) -> str:
    """Returns all that a command says."""
    ended = run(*command, env=site.variables, cwd=site.home)
    return ended.stdout + ended.stderr


@pytest.mark.fault(34)
def test_fault_34_the_search_finds_a_secret_however_it_is_packed(tmp_path):
    """The search itself: without it, the test below would prove nothing."""
    for number in range(3):
        packed = base64.b64encode(b"." * number + SECRET.encode() + b"..")
        (tmp_path / f"log-{number}").write_bytes(b"some text " + packed)
    with closing(sqlite3.connect(tmp_path / "events.db")) as connection:
        connection.execute("CREATE TABLE cursors (body TEXT)")
        packed_cursor = base64.b64encode(zlib.compress(f"token {TOKEN}".encode())).decode()
        connection.execute("INSERT INTO cursors VALUES (?)", (packed_cursor,))
        connection.commit()
    stored = [("a.jsonl.zst", zstandard.compress(PASSWORD.encode()))]
    found = leaks(tmp_path, stored)
    assert sorted(line.rpartition("/")[2] for line in found) == [
        f"a.jsonl.zst: {PASSWORD}",
        f"events.db: {TOKEN}",
        *(f"log-{number}: {SECRET}" for number in range(3)),
    ]


@pytest.mark.fault(34)
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fault_34_no_secret_is_in_what_runs_store_and_commands_say(guarded_site):
    site = guarded_site
    announce_frames(site.settings, FRAMES)
    with open_producer(site.settings) as producer:
        producer.send("frames", b"no message", key=b"camera")
        producer.flush()
    site.start_daemon()
    wait_until(lambda: ledger_end(site) == FRAMES + 1, limit_s=150, what="the daemon's run", interval_s=0.5)
    site.wait_for_runs_to_end()
    site.stop()
    said = [*failing_runs(site)]
    said += [said_by(site, *command) for command in (
        ("--verbose", "doctor"), ("--verbose", "status", "--json"), ("audit", "--full"), ("settings",),
        ("dead-letters", "list", "--json"), ("ledger", "list", "--json"),
        ("query", "SELECT * FROM segments", "--json"),
    )]  # fmt: skip

    store = open_store(site.settings)
    assert [secret for text in said for secret in found_in(text.encode())] == []
    assert leaks(site.home, ((info.key, store.get(info.key)) for info in store.list_objects())) == []
    assert any(path.suffix == ".db" for path in site.home.rglob("*"))
    assert any(path.suffix == ".err" for path in site.home.rglob("*")), "no compute log was searched"
    held = check(site.settings)
    assert (len(held.frames), held.codes) == (FRAMES, {"INVALID_MESSAGE": 1})
