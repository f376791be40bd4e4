"""`imgpipeline ledger`: chains are listed, bundled and repaired, without Kafka where possible."""

import pytest

from imgpipeline.contracts.keys import ChainId, segment_key
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, check_ledger, dead_letter, frames, write_chain

EARLIER = ChainId("frames", "an-earlier-topic", 3)


def test_ends_lists_every_chain_with_its_last_segment(folder_site, tmp_path, store_of):
    assert "no chain" in run("ledger", "list", env=folder_site, cwd=tmp_path).stderr
    store = store_of(folder_site)
    write_chain(store, frames(0, 4), [dead_letter(4), *frames(5, 7)])
    write_chain(store, frames(0, 2), chain=EARLIER)
    write_chain(store, frames(0, 1), chain=ChainId("import.old", "rows", 0))

    found = run("ledger", "list", "--json", env=folder_site, cwd=tmp_path).json()

    assert [(row["topic"], row["topic_id"], row["partition"], row["end"], row["last_start"]) for row in found] == [
        ("frames", EARLIER.topic_id, 3, 2, 0),
        ("frames", CHAIN.topic_id, 0, 7, 4),
        ("import.old", "rows", 0, 1, 0),
    ]
    assert not any(row["closed"] for row in found)
    assert {(row["run_id"], row["last_commit"]) for row in found} == {("run-1", "2026-01-09T12:00:00.000000Z")}
    table = run("ledger", "list", "--topic", "frames", env=folder_site, cwd=tmp_path)
    assert CHAIN.topic_id in table.stdout
    assert "import.old" not in table.stdout


def test_ends_names_a_last_segment_that_cannot_be_read_and_shows_the_others(folder_site, tmp_path, store_of):
    store = store_of(folder_site)
    write_chain(store, frames(0, 2))
    write_chain(store, frames(0, 2), chain=EARLIER)
    store.put(segment_key(CHAIN, 0), b"")

    ended = run("ledger", "list", "--json", env=folder_site, cwd=tmp_path)

    assert ended.status == 1
    assert segment_key(CHAIN, 0) in ended.stderr
    assert {row["topic_id"]: row["end"] for row in ended.json()} == {EARLIER.topic_id: 2, CHAIN.topic_id: None}


@pytest.mark.medium
@pytest.mark.fault(40)
def test_fault_40_the_command_shows_and_repairs_the_damage(folder_site, tmp_path, store_of):
    store, key = store_of(folder_site), segment_key(CHAIN, 2)
    write_chain(store, frames(0, 2), frames(2, 5), frames(5, 6))
    assert rebuild_day(store, DAY, now=NOON).of("frames").rows == 6
    store.put(key, b"[bold]not a segment")

    planned = run("ledger", "repair", "--dry-run", "--without-kafka", "--json", env=folder_site, cwd=tmp_path)
    [step] = planned.json()["steps"]
    assert (step["key"], step["start"], step["end"], step["source"], step["kept"]) == (key, 2, 5, "gap", None)
    assert store.get(key) == b"[bold]not a segment"

    refused = run("ledger", "repair", "--without-kafka", env=folder_site, cwd=tmp_path)
    assert (refused.status, "give --key" in refused.stderr) == (2, True)
    done = run("ledger", "repair", "--without-kafka", f"--key={key}", env=folder_site, cwd=tmp_path)
    assert (done.status, "│     2 │   5 │" in done.stdout) == (0, True), done.stdout
    assert f"1 day must be built again. The sensor keep_tables_current does so, or `imgpipeline build --from {DAY}" in (
        done.stderr
    )
    assert "Repaired." in done.stderr
    assert run("build", "--from", DAY, "--to", DAY, env=folder_site, cwd=tmp_path).status == 0
    assert rebuild_day(store, DAY, now=NOON).of("frames").rows == 3
    assert check_ledger(store) == 6
    assert [store.get(info.key) for info in store.list_objects("metadata_damaged")] == [b"[bold]not a segment"]
    again = run("ledger", "repair", "--without-kafka", f"--key={key}", env=folder_site, cwd=tmp_path)
    assert (again.status, "Nothing to repair" in again.stderr) == (0, True)
