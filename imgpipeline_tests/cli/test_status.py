"""`imgpipeline status`: how far the ledger lags behind the log, from a new site on."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from imgpipeline.contracts.keys import ChainId
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import load_settings
from imgpipeline.stream.connection import open_producer
from imgpipeline.stream.log import read_log
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.ledger.samples import dead_letter, frames, write_chain
from imgpipeline_tests.sources.test_folder import write_picture

NOTICES = 3
"""Of a short session: started, account, ended."""
NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


def test_topics_ingest_and_status_of_a_new_site(site: dict[str, str], tmp_path: Path):
    env = {**site, "IMGPIPELINE_KAFKA_TOPIC": f"new-{uuid4().hex[:8]}"}
    made = run("topics", "create", "--partitions", "2", "--json", env=env, cwd=tmp_path)
    assert made.json() == {"topic": env["IMGPIPELINE_KAFKA_TOPIC"], "created": True, "partitions": 2}
    again = run("topics", "create", "--partitions", "5", env=env, cwd=tmp_path)
    assert again.status == 0
    assert "already exists" in again.stderr
    for number in range(5):
        write_picture(tmp_path / "pictures" / f"{number}.jpg", shade=number * 40, time=NOW)
    (tmp_path / "pictures" / "notes.txt").touch()
    ingested = run("ingest", "folder", tmp_path / "pictures", "--source", "gate", "--json", env=env, cwd=tmp_path)
    result = ingested.json()
    assert (result["announced"], result["stored"], result["already_there"]) == (5, 5, 0)
    assert [skipped["path"] for skipped in result["skipped"]] == ["notes.txt"]
    repeated = run("ingest", "folder", tmp_path / "pictures", "--source", "gate", env=env, cwd=tmp_path)
    assert "0 new, 5 already stored" in repeated.stderr
    assert "notes.txt" in repeated.stderr
    status = run("status", "--json", env=env, cwd=tmp_path).json()
    assert sum(partition["lag"] for partition in status["partitions"]) == 2 * (5 + NOTICES)
    assert {partition["ledger_end"] for partition in status["partitions"]} == {0}
    assert {partition["last_commit"] for partition in status["partitions"]} == {None}


def test_status_shows_lag_last_commit_and_dead_letters(
    site: dict[str, str], tmp_path: Path, store_of: Callable[[dict[str, str]], ObjectStore]
):
    for number in range(6):
        write_picture(tmp_path / "pictures" / f"{number}.jpg")
    run("ingest", "folder", tmp_path / "pictures", "--source", "gate", env=site, cwd=tmp_path)
    store = store_of(site)
    chain = read_log(load_settings())[0].chain
    write_chain(store, [dead_letter(0), *frames(1, 3)], [dead_letter(3)], chain=chain)
    gone = ChainId(chain.topic, "an-earlier-topic", 0)
    write_chain(store, frames(0, 7), chain=gone)
    current, earlier = run("status", "--json", env=site, cwd=tmp_path).json()["partitions"]
    assert (current["log_end"], current["ledger_end"], current["dead_letters"]) == (6 + NOTICES, 4, 2)
    assert current["lag"] == 2 + NOTICES
    assert current["last_commit"] == "2026-01-09T12:00:00.000000Z"
    assert (earlier["topic_id"], earlier["current"], earlier["lag"]) == ("an-earlier-topic", False, None)
    limited = run("status", "--segments", "1", env=site, cwd=tmp_path)
    assert "last 1 segment of a partition" in limited.stderr
    assert "an-earlier-topic, gone" in limited.stdout


def test_transaction_markers_alone_are_no_lag(
    site: dict[str, str], tmp_path: Path, store_of: Callable[[dict[str, str]], ObjectStore]
):
    store = store_of(site)
    settings = load_settings()
    with open_producer(settings, transactional_id=settings.kafka_topic) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(settings.kafka_topic, b"{}")
        producer.commit_transaction()
    [waiting] = run("status", "--json", env=site, cwd=tmp_path).json()["partitions"]
    assert (waiting["log_end"], waiting["lag"]) == (2, 2)
    assert datetime.fromisoformat(waiting["oldest_unread"]) > NOW
    assert run("health", "--lag", "0", env=site, cwd=tmp_path).status == 1

    write_chain(store, [dead_letter(0)], chain=read_log(settings)[0].chain)

    [done] = run("status", "--json", env=site, cwd=tmp_path).json()["partitions"]
    assert (done["log_end"], done["ledger_end"], done["lag"], done["oldest_unread"]) == (2, 1, 0, None)
    assert run("health", "--lag", "0", env=site, cwd=tmp_path).status == 0


def test_status_names_a_missing_topic(site: dict[str, str], tmp_path: Path):
    ended = run("status", env={**site, "IMGPIPELINE_KAFKA_TOPIC": "absent"}, cwd=tmp_path)
    assert ended.status == 1
    assert "imgpipeline topics create" in ended.stderr
