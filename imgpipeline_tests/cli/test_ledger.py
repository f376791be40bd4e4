"""The chains and their ends, from any store, without asking Kafka."""

from collections.abc import Callable
from pathlib import Path

from imgpipeline.contracts.keys import ChainId, segment_key
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.ledger.samples import CHAIN, dead_letter, frames, write_chain

EARLIER = ChainId("frames", "an-earlier-topic", 3)


def test_ends_lists_every_chain_with_its_last_segment(
    folder_site: dict[str, str], tmp_path: Path, store_of: Callable[[dict[str, str]], ObjectStore]
):
    store = store_of(folder_site)
    write_chain(store, frames(0, 4), [dead_letter(4), *frames(5, 7)])
    write_chain(store, frames(0, 2), chain=EARLIER)
    write_chain(store, frames(0, 1), chain=ChainId("import.old", "rows", 0))

    found = run("ledger", "ends", "--json", env=folder_site, cwd=tmp_path).json()

    assert [(row["topic"], row["topic_id"], row["partition"], row["end"], row["last_start"]) for row in found] == [
        ("frames", EARLIER.topic_id, 3, 2, 0),
        ("frames", CHAIN.topic_id, 0, 7, 4),
        ("import.old", "rows", 0, 1, 0),
    ]
    assert not any(row["closed"] for row in found)
    assert {(row["run_id"], row["last_commit"]) for row in found} == {("run-1", "2026-01-09T12:00:00.000000Z")}
    table = run("ledger", "ends", "--topic", "frames", env=folder_site, cwd=tmp_path)
    assert CHAIN.topic_id in table.stdout
    assert "import.old" not in table.stdout


def test_ends_names_a_last_segment_that_cannot_be_read_and_shows_the_others(
    folder_site: dict[str, str], tmp_path: Path, store_of: Callable[[dict[str, str]], ObjectStore]
):
    store = store_of(folder_site)
    write_chain(store, frames(0, 2))
    write_chain(store, frames(0, 2), chain=EARLIER)
    store.put(segment_key(CHAIN, 0), b"")

    ended = run("ledger", "ends", "--json", env=folder_site, cwd=tmp_path)

    assert ended.status == 1
    assert segment_key(CHAIN, 0) in ended.stderr
    assert {row["topic_id"]: row["end"] for row in ended.json()} == {EARLIER.topic_id: 2, CHAIN.topic_id: None}


def test_a_ledger_without_chains_says_so(folder_site: dict[str, str], tmp_path: Path):
    ended = run("ledger", "ends", env=folder_site, cwd=tmp_path)
    assert (ended.status, ended.stdout) == (0, "")
    assert "no chain" in ended.stderr
