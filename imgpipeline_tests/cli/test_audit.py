"""The audit by command: its document, its verdict, its exit status, on a real Kafka and a real S3."""

from collections.abc import Callable
from pathlib import Path

import pytest

from imgpipeline.contracts.keys import ChainId, segment_key
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import load_settings
from imgpipeline.stream.log import read_log
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.ledger.samples import dead_letter, frames, write_chain
from imgpipeline_tests.sources.test_folder import write_picture

PARTITION = {
    "topic", "topic_id", "partition", "log_start", "log_end", "ledger_start", "ledger_end", "frames", "gated",
    "dead_letters", "gaps", "missing", "overlapping",
}  # fmt: skip

OpenStore = Callable[[dict[str, str]], ObjectStore]


@pytest.fixture
def chain(site: dict[str, str], store_of: OpenStore, tmp_path: Path) -> ChainId:
    """The chain of a log with eight records and no outcome yet."""
    for number in range(8):
        write_picture(tmp_path / "pictures" / f"{number}.jpg")
    assert run("ingest", "folder", tmp_path / "pictures", "--source", "gate", env=site, cwd=tmp_path).status == 0
    store_of(site)
    return read_log(load_settings())[0].chain


def test_a_sound_ledger_is_ok_and_lag_is_not_missing(
    site: dict[str, str], store_of: OpenStore, chain: ChainId, tmp_path: Path
):
    write_chain(store_of(site), frames(0, 3), [dead_letter(3), Gap(4, 6, GapReason.MARKER)], chain=chain)
    ended = run("audit", "--json", env=site, cwd=tmp_path)
    report = ended.json()
    (partition,) = report["partitions"]
    assert (ended.status, report["ok"]) == (0, True), ended.stderr
    assert partition.keys() == PARTITION
    assert report.keys() == {"ok", "partitions", "days", "summaries"}
    assert (partition["ledger_end"], partition["log_end"], partition["missing"]) == (6, 8, 0)
    assert (partition["frames"], partition["dead_letters"], partition["gaps"]) == (3, 1, {"marker": 2})
    table = run("audit", env=site, cwd=tmp_path)
    assert table.status == 0
    assert "marker 2" in table.stdout
    assert "The audit is ok." in table.stderr


def test_a_segment_that_was_removed_is_found_and_named(
    site: dict[str, str], store_of: OpenStore, chain: ChainId, tmp_path: Path
):
    store = store_of(site)
    write_chain(store, frames(0, 3), frames(3, 5), frames(5, 8), chain=chain)
    store.delete(segment_key(chain, 3))
    ended = run("audit", "--json", env=site, cwd=tmp_path)
    assert (ended.status, ended.json()["ok"]) == (1, False)
    assert ended.json()["partitions"][0]["missing"] == 2
    assert "WRONG: " in ended.stderr
    assert "The audit is NOT ok." in ended.stderr


def test_a_damaged_segment_is_named_by_its_key(
    site: dict[str, str], store_of: OpenStore, chain: ChainId, tmp_path: Path
):
    store = store_of(site)
    write_chain(store, frames(0, 3), frames(3, 5), chain=chain)
    store.put(segment_key(chain, 0), b"")
    ended = run("audit", "--full", "--json", env=site, cwd=tmp_path)
    assert (ended.status, ended.json()["ok"]) == (1, False)
    assert segment_key(chain, 0) in ended.stderr


def test_expired_offsets_fail_unless_they_are_allowed(
    site: dict[str, str], store_of: OpenStore, chain: ChainId, tmp_path: Path
):
    write_chain(store_of(site), frames(0, 3), [Gap(3, 8, GapReason.EXPIRED)], chain=chain)
    assert run("audit", "--json", env=site, cwd=tmp_path).status == 1
    allowed = run("audit", "--allow-gaps", "--json", env=site, cwd=tmp_path)
    assert (allowed.status, allowed.json()["partitions"][0]["gaps"]) == (0, {"expired": 5})


def test_without_kafka_there_is_no_verdict(site: dict[str, str], tmp_path: Path):
    ended = run("audit", "--json", env={**site, "IMGPIPELINE_KAFKA_TOPIC": "absent"}, cwd=tmp_path)
    assert (ended.status, ended.stdout) == (1, "")
    assert "imgpipeline topics create" in ended.stderr
