"""A manifest says the same when it is read as when it was written, however long it is."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts.keys import ChainId, day_table_key
from imgpipeline.errors import PermanentError
from imgpipeline.lake.build.day_ends import covered_ends, join_ends
from imgpipeline.lake.schema import SCHEMA_VERSION
from imgpipeline.lake.storage.engine import open_engine
from imgpipeline.lake.storage.manifest import Manifest, read_manifest, read_stored
from imgpipeline.lake.storage.parquet_objects import write_parquet
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.contracts.strategies import chains, numbers, texts, times
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON

manifests = st.builds(
    Manifest,
    table=texts,
    day=st.dates(),
    schema_version=st.integers(0, 99),
    made_by=texts,
    ends=st.dictionaries(chains, numbers, max_size=4),
    rows=numbers,
    built_at=times,
    duplicates=numbers,
)
all_ends = st.dictionaries(st.sampled_from([ChainId("t", "i", n) for n in range(3)]), st.integers(0, 9))


@given(manifests)
def test_it_round_trips_through_json(manifest: Manifest):
    assert Manifest.from_json(manifest.to_json()) == manifest


def put_manifest(store: ObjectStore, manifest: Manifest) -> int:
    with open_engine(memory=None) as engine:
        data = write_parquet(engine, "SELECT 1 AS a", manifest, object_bytes=10**9)
    store.put(day_table_key(manifest.table, manifest.day), data)
    return len(data)


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_it_is_read_from_the_store_with_version_and_size_however_many_chains_it_names(memory: ObjectStore, count: int):
    ends = {ChainId("frames", f"it's {'x' * 40}".replace("'", "-").replace(" ", "_"), n): n for n in range(count)}
    manifest = Manifest("frames", DAY, 1, "code", ends, 1, NOON)
    size_bytes = put_manifest(memory, manifest)
    assert (size_bytes > 128 * 1024) == (count == 5000)
    stored = read_stored(memory, day_table_key("frames", DAY))
    info = memory.head(day_table_key("frames", DAY))
    assert stored is not None
    assert info is not None
    assert stored.manifest.content, "the hash of the rows is added where they are written"
    assert replace(stored.manifest, content="") == manifest
    assert (stored.e_tag, stored.size_bytes) == (info.e_tag, size_bytes)


def test_a_parquet_file_of_somebody_else_is_named_with_what_to_do(memory: ObjectStore):
    with open_engine(memory=None) as engine:
        path = engine.folder / "other.parquet"
        engine.run(f"COPY (SELECT 1) TO '{path}'")
        memory.put(day_table_key("frames", DAY), path.read_bytes())
    with pytest.raises(PermanentError, match="manifest") as error:
        read_manifest(memory, "frames", DAY)
    assert day_table_key("frames", DAY) in str(error.value)
    assert error.value.next_step
    assert read_manifest(memory, "detections", DAY) is None


@given(all_ends, all_ends)
def test_joined_ends_are_the_greater_and_covered_ends_the_smaller(one: dict[ChainId, int], other: dict[ChainId, int]):
    joined = join_ends(one, other)
    made = [Manifest("frames", DAY, SCHEMA_VERSION, "", ends, 0, NOON) for ends in (one, other)]
    covered = covered_ends(*made)
    for chain in {*one, *other}:
        assert joined[chain] == max(one.get(chain, 0), other.get(chain, 0))
        assert covered.get(chain, 0) == min(one.get(chain, 0), other.get(chain, 0))
    assert covered_ends(made[0], None) == covered_ends() == {}
    assert CHAIN not in joined
