"""What holds nothing of a day is read once, and never taken for quiet where it is not."""

from datetime import timedelta
from pathlib import Path

import pytest

from imgpipeline.contracts.keys import segment_key
from imgpipeline.lake.day_tables import rebuild_day
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.lake.audits import run_audit
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, append, frames, write_chain

NEXT = DAY + timedelta(days=1)


class CountingStore(ObjectStore):
    """A store that notes which segments are read."""

    def fetch(self, key: str, *, max_bytes: int | None = None):
        if key.startswith("metadata/"):
            self.read: list[str] = [*getattr(self, "read", []), key]
        return super().fetch(key, max_bytes=max_bytes)


@pytest.fixture
def counting(folder: ObjectStore) -> CountingStore:
    return CountingStore(folder._store, folder.url, folder=folder._folder)


def count_frames(lake, store: CountingStore) -> tuple[int, int]:
    """Open a session; answer how many frames it shows, and how many segments it has read."""
    store.read = []
    with lake(store) as session:
        return session.query("SELECT count(*) FROM frames").rows[0][0], len(store.read)


def one_day_and_most_of_a_bucket_behind_it(store: ObjectStore):
    made = write_chain(store, frames(0, 3))
    rebuild_day(store, DAY, now=NOON)
    for offset in range(3, 43):
        append(made, frames(offset, offset + 1, NEXT))
    rebuild_day(store, NEXT, now=NOON)
    return made


def test_the_rest_of_a_day_s_last_bucket_is_read_by_the_first_session_only(counting: CountingStore, lake):
    made = one_day_and_most_of_a_bucket_behind_it(counting)
    shown, read = count_frames(lake, counting)
    assert (shown, read >= 40) == (43, True)
    shown, read = count_frames(lake, counting)
    assert (shown, read) == (43, 1)  # the last segment: its header tells the end, and that the notes still hold
    append(made, frames(43, 45, NEXT))
    shown, read = count_frames(lake, counting)
    assert (shown, read <= 6) == (45, True)


def test_an_audit_reads_it_once_too(counting: CountingStore):
    one_day_and_most_of_a_bucket_behind_it(counting)
    for most in (1000, 4):
        counting.read = []
        assert not any(day.stale for day in run_audit(counting).days)
        assert len(counting.read) <= most


def test_a_late_frame_behind_a_quiet_stretch_is_shown(counting: CountingStore, lake):
    made = one_day_and_most_of_a_bucket_behind_it(counting)
    count_frames(lake, counting)
    append(made, [seen(43, ["dog"])])
    assert [count_frames(lake, counting)[0] for _ in range(2)] == [44, 44]
    rebuild_day(counting, DAY, now=NOON)
    assert [count_frames(lake, counting)[0] for _ in range(2)] == [44, 44]


def test_a_store_that_was_made_anew_under_the_same_url_has_no_quiet_stretches(counting: CountingStore, lake):
    one_day_and_most_of_a_bucket_behind_it(counting)
    count_frames(lake, counting)
    for info in list(counting.list_objects()):
        counting.delete(info.key)
    made = write_chain(counting, frames(0, 3))
    rebuild_day(counting, DAY, now=NOON)
    append(made, frames(3, 43))
    assert count_frames(lake, counting)[0] == 43


def test_tables_that_were_removed_are_made_up_for_from_the_beginning(counting: CountingStore, lake):
    one_day_and_most_of_a_bucket_behind_it(counting)
    count_frames(lake, counting)
    counting.delete(f"frames/day={DAY}/frames.parquet")
    assert count_frames(lake, counting)[0] == 43
    assert segment_key(CHAIN, 0) in counting.read


@pytest.mark.parametrize("content", [b"", b"{}", b'{"marks": [], "notes": [{}]}', b'{"marks": 1}'])
def test_notes_that_cannot_be_read_only_cost_reading(counting: CountingStore, lake, tmp_path: Path, content: bytes):
    one_day_and_most_of_a_bucket_behind_it(counting)
    count_frames(lake, counting)
    (file,) = (tmp_path / "cache" / "quiet").iterdir()
    file.write_bytes(content)
    assert count_frames(lake, counting)[0] == 43
