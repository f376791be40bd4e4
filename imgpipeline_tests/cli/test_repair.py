"""`ledger repair` shows first what it would do, then does it and says so; without Kafka it records gaps."""

from collections.abc import Callable
from pathlib import Path

import pytest

from imgpipeline.contracts.keys import segment_key
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.ledger.samples import CHAIN, check_ledger, frames, write_chain


@pytest.mark.medium
@pytest.mark.fault(40)
def test_fault_40_the_command_shows_and_repairs_the_damage(
    folder_site: dict[str, str], tmp_path: Path, store_of: Callable[[dict[str, str]], ObjectStore]
):
    store, key = store_of(folder_site), segment_key(CHAIN, 2)
    write_chain(store, frames(0, 2), frames(2, 5), frames(5, 6))
    store.put(key, b"[bold]not a segment")

    planned = run("ledger", "repair", "--dry-run", "--without-kafka", "--json", env=folder_site, cwd=tmp_path)
    [step] = planned.json()["steps"]
    assert (step["key"], step["start"], step["end"], step["source"], step["kept"]) == (key, 2, 5, "gap", None)
    assert store.get(key) == b"[bold]not a segment"

    refused = run("ledger", "repair", "--without-kafka", env=folder_site, cwd=tmp_path)
    assert (refused.status, "give --key" in refused.stderr) == (2, True)
    done = run("ledger", "repair", "--without-kafka", f"--key={key}", env=folder_site, cwd=tmp_path)
    assert (done.status, "[2, 5)" in done.stdout) == (0, True)
    assert "Repaired." in done.stderr
    assert check_ledger(store) == 6
    assert [store.get(info.key) for info in store.list_objects("metadata_damaged")] == [b"[bold]not a segment"]
    again = run("ledger", "repair", "--without-kafka", f"--key={key}", env=folder_site, cwd=tmp_path)
    assert (again.status, "Nothing to repair" in again.stderr) == (0, True)
