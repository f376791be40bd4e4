"""`imgpipeline status` and `audit`: how far the ledger is behind Kafka, and whether each offset has one outcome."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from imgpipeline.contracts.keys import ChainId, alert_key, segment_key
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.events.alerts.chain import AlertChain
from imgpipeline.settings import load_settings
from imgpipeline.stream.connection import open_producer
from imgpipeline.stream.log import read_log
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.cli.samples import OpenStore
from imgpipeline_tests.events.test_alert_chain import NOW as RAISED_AT
from imgpipeline_tests.events.test_alert_chain import event
from imgpipeline_tests.ledger.samples import dead_letter, frames, write_chain
from imgpipeline_tests.sources.test_folder import write_picture

NOTICES = 3
"""Of a short session: started, account, ended."""
NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


def test_topics_ingest_and_status_of_a_new_site(site, tmp_path):
    env = {**site, "IMGPIPELINE_KAFKA_TOPIC": f"new-{uuid4().hex[:8]}"}
    made = run("topics", "create", "--partitions", "2", "--json", env=env, cwd=tmp_path)
    assert made.json() == {"topic": env["IMGPIPELINE_KAFKA_TOPIC"], "created": True, "partitions": 2}
    again = run("topics", "create", "--partitions", "5", env=env, cwd=tmp_path)
    assert again.status == 0
    assert "already exists" in again.stderr
    for number in range(5):
        write_picture(tmp_path / "pictures" / f"{number}.jpg", shade=number * 40, time=NOW)
    run("ingest", "folder", tmp_path / "pictures", "--source", "gate", env=env, cwd=tmp_path)
    repeated = run("ingest", "folder", tmp_path / "pictures", "--source", "gate", env=env, cwd=tmp_path)
    assert "0 new, 5 already stored" in repeated.stderr
    status = run("status", "--json", env=env, cwd=tmp_path).json()
    assert sum(partition["lag"] for partition in status["partitions"]) == 2 * (5 + NOTICES)
    assert {partition["ledger_end"] for partition in status["partitions"]} == {0}
    assert {partition["last_commit"] for partition in status["partitions"]} == {None}


def test_status_shows_lag_and_last_commit(site, tmp_path, store_of):
    for number in range(6):
        write_picture(tmp_path / "pictures" / f"{number}.jpg")
    run("ingest", "folder", tmp_path / "pictures", "--source", "gate", env=site, cwd=tmp_path)
    store = store_of(site)
    chain = read_log(load_settings())[0].chain
    write_chain(store, [dead_letter(0), *frames(1, 3)], [dead_letter(3)], chain=chain)
    gone = ChainId(chain.topic, "an-earlier-topic", 0)
    write_chain(store, frames(0, 7), chain=gone)
    current, earlier = run("status", "--json", env=site, cwd=tmp_path).json()["partitions"]
    assert (current["log_end"], current["ledger_end"], current["lag"]) == (6 + NOTICES, 4, 2 + NOTICES)
    assert current["last_commit"] == "2026-01-09T12:00:00.000000Z"
    assert (earlier["topic_id"], earlier["current"], earlier["lag"]) == ("an-earlier-topic", False, None)
    assert "an-earlier-topic" in run("status", env=site, cwd=tmp_path).stdout


def test_transaction_markers_alone_are_no_lag(site, tmp_path, store_of):
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


PARTITION = {
    "topic", "topic_id", "partition", "log_compared", "log_start", "log_end", "ledger_start", "ledger_end", "frames",
    "gated", "dead_letters", "notices", "gaps", "missing", "overlapping", "session_problems",
}  # fmt: skip


@pytest.fixture
def chain(site: dict[str, str], store_of: OpenStore, tmp_path: Path) -> ChainId:
    """The chain of a log with eight frames, three notices and no outcome yet."""
    for number in range(8):
        write_picture(tmp_path / "pictures" / f"{number}.jpg")
    assert run("ingest", "folder", tmp_path / "pictures", "--source", "gate", env=site, cwd=tmp_path).status == 0
    store_of(site)
    return read_log(load_settings())[0].chain


def test_a_sound_ledger_is_ok_and_lag_is_not_missing(site, store_of, chain, tmp_path):
    write_chain(store_of(site), frames(0, 3), [dead_letter(3), Gap(4, 6, GapReason.MARKER)], chain=chain)
    ended = run("audit", "--json", env=site, cwd=tmp_path)
    report = ended.json()
    (partition,) = report["partitions"]
    assert (ended.status, report["ok"]) == (0, True), ended.stderr
    assert partition.keys() == PARTITION
    assert report.keys() == {"ok", "partitions", "days", "summaries", "alerts"}
    assert (partition["ledger_end"], partition["log_end"], partition["missing"]) == (6, 11, 0)
    assert (partition["frames"], partition["dead_letters"], partition["gaps"]) == (3, 1, {"marker": 2})
    table = run("audit", env=site, cwd=tmp_path)
    assert table.status == 0
    assert "marker 2" in table.stdout
    assert "The audit is ok, but 1 of 1 day could not be compared yet." in table.stderr
    assert "Tables not compared: 1 day (2" in table.stderr


def test_a_segment_that_was_removed_is_found_and_named(site, store_of, chain, tmp_path):
    store = store_of(site)
    write_chain(store, frames(0, 3), frames(3, 5), frames(5, 8), chain=chain)
    store.delete(segment_key(chain, 3))
    ended = run("audit", "--json", env=site, cwd=tmp_path)
    assert (ended.status, ended.json()["ok"]) == (1, False)
    assert ended.json()["partitions"][0]["missing"] == 2
    assert "WRONG: " in ended.stderr
    assert "The audit is NOT ok." in ended.stderr


@pytest.mark.medium
def test_alerts_that_were_not_compared_are_listed_and_a_missing_number_is_wrong(folder_site, store_of, tmp_path):
    store = store_of(folder_site)
    (tmp_path / "gate.csv").write_text("timestamp,detected_label,confidence\n2026-01-09 12:00:00,car,0.91")
    assert run("import", "detections", "gate.csv", env=folder_site, cwd=tmp_path).status == 0
    chain = AlertChain(store)
    for number in (1, 2):
        chain.append(event(number), difference_image=None, now=RAISED_AT)
    listed = run("audit", env=folder_site, cwd=tmp_path)
    assert listed.status == 0
    assert listed.stderr.startswith("Alerts not compared: 2026-01-09, events of 2026-01-09 cannot be made")
    store.delete(alert_key(1))
    ended = run("audit", "--json", env=folder_site, cwd=tmp_path)
    assert (ended.status, ended.json()["ok"]) == (1, False)
    assert ended.stderr.startswith("WRONG: Alert 1 is missing")
