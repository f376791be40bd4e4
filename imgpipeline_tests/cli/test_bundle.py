"""`ledger bundle` says what it makes, and what it cannot."""

from collections.abc import Callable
from pathlib import Path

from imgpipeline.contracts.keys import segment_key
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.ledger.bundles.samples import DAYS, bundle_keys, sparse
from imgpipeline_tests.ledger.samples import CHAIN, write_chain

StoreOf = Callable[[dict[str, str]], ObjectStore]


def fill(store: ObjectStore) -> None:
    write_chain(store, *(sparse(start, 250, DAYS[0]) for start in range(0, 20_250, 250)))


def test_a_dry_run_says_what_would_be_made_and_makes_nothing(
    folder_site: dict[str, str], tmp_path: Path, store_of: StoreOf
):
    store = store_of(folder_site)
    fill(store)
    ended = run("ledger", "bundle", "--dry-run", env=folder_site, cwd=tmp_path)
    assert ended.status == 0
    assert "Would make 2 bundles of 80 segments" in ended.stderr
    assert "76 fewer requests. Nothing was changed." in ended.stderr
    assert bundle_keys(store) == []


def test_bundles_are_made_once(folder_site: dict[str, str], tmp_path: Path, store_of: StoreOf):
    store = store_of(folder_site)
    fill(store)
    made = run("ledger", "bundle", "--json", env=folder_site, cwd=tmp_path).json()
    assert made["size_bytes"] == sum(len(store.get(key)) for key in bundle_keys(store))
    assert (made["bundles"], made["segments"], made["requests_saved"], made["problems"]) == (2, 80, 76, [])
    ended = run("ledger", "bundle", env=folder_site, cwd=tmp_path)
    assert (ended.status, "Nothing to bundle" in ended.stderr) == (0, True)


def test_a_range_with_damage_is_named_and_the_others_are_bundled(
    folder_site: dict[str, str], tmp_path: Path, store_of: StoreOf
):
    store = store_of(folder_site)
    fill(store)
    store.put(segment_key(CHAIN, 500), b"")
    ended = run("ledger", "bundle", env=folder_site, cwd=tmp_path)
    assert ended.status == 1
    assert "Made 1 bundles of 40 segments" in ended.stderr
    assert f"NOT bundled: The segment {segment_key(CHAIN, 500)} is damaged" in ended.stderr
