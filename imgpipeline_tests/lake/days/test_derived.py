"""The contract of derived objects: a new derived table is one entry, here a count of lines, on a real S3 server."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import pytest

from imgpipeline.errors import PermanentError, TransientError
from imgpipeline.lake.days.derived import Derived, Made, Origin, Start, State, build, judge, state_of
from imgpipeline.lake.storage.engine import open_engine
from imgpipeline.lake.storage.manifest import DamagedObjectError, Manifest, Stored, read_stored, write_parquet
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.s3_server import S3Bucket

DAY = date(2026, 3, 1)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
TEXT, COUNTS = "texts/one.txt", "line_counts/day=2026-03-01/line_counts.parquet"


@dataclass
class LineCounts(Derived[Manifest]):
    """How many lines a text has."""

    store: ObjectStore
    recipe: str = "count"
    made: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"line_counts of {DAY}"

    def read(self) -> dict[str, Stored | None]:
        return {COUNTS: read_stored(self.store, COUNTS)}

    def origin(self, manifest: Manifest, /) -> Origin:
        return Origin(manifest.made_of, manifest.made_by)

    def wanted(self, _stored: Mapping[str, Stored | None], /) -> Origin:
        found = self.store.head(TEXT)
        if found is None:
            raise PermanentError("There is no text.")
        return Origin({"text": found.e_tag}, self.recipe)

    def make(self, _start: Start[Manifest], /) -> dict[str, Made[Manifest]]:
        text = self.store.fetch(TEXT)
        self.made.append(text.data.decode())
        manifest = Manifest(
            table="line_counts", day=DAY, made_by=self.recipe, built_at=NOON, made_of={"text": text.e_tag}
        )
        with open_engine(memory=None) as engine:
            rows = f"SELECT * FROM range({len(text.data.splitlines())})"  # noqa: S608 - a number
            return {COUNTS: Made(*write_parquet(engine, rows, manifest, object_bytes=10**6))}


@pytest.fixture
def store(bucket: S3Bucket) -> ObjectStore:
    return open_store(s3_settings(bucket))


@pytest.fixture
def entry(store: ObjectStore) -> LineCounts:
    store.put(TEXT, b"one\n")
    return LineCounts(store)


def lines(store: ObjectStore) -> int:
    found = read_stored(store, COUNTS)
    assert found is not None
    return found.manifest.rows


@pytest.mark.servers
def test_a_table_is_rebuilt_only_if_its_input_is_new(store, entry):
    assert state_of(entry) is State.MISSING
    first = build(entry)
    assert (first.state, first.skipped, lines(store)) == (State.MISSING, False, 1)
    assert state_of(entry) is State.CURRENT
    assert build(entry).skipped
    store.put(TEXT, b"one\ntwo\n")
    assert state_of(entry) is State.STALE
    again = build(entry)
    assert (again.state, again.skipped, lines(store)) == (State.STALE, False, 2)
    assert entry.made == ["one\n", "one\ntwo\n"]


@pytest.mark.servers
def test_another_recipe_is_not_stale_but_is_rebuilt(store, entry):
    build(entry)
    newer = LineCounts(store, recipe="count twice")
    assert state_of(newer) is State.OTHER_RECIPE
    assert not state_of(newer).is_behind
    assert not build(newer).skipped
    assert state_of(newer) is State.CURRENT


@pytest.mark.servers
def test_a_current_table_is_rebuilt_on_request(store, entry):
    build(entry)
    forced = build(entry, force=True)
    assert (forced.state, forced.skipped, len(entry.made)) == (State.CURRENT, False, 2)


@pytest.mark.servers
def test_a_damaged_table_is_reported_and_not_replaced_until_it_is_moved(store, entry):
    build(entry)
    store.put(COUNTS, b"not a table")
    assert state_of(entry) is State.DAMAGED
    assert state_of(entry).is_behind
    with pytest.raises(DamagedObjectError, match=COUNTS) as error:
        build(entry, force=True)
    assert "move that object aside" in str(error.value.next_step)
    assert store.get(COUNTS) == b"not a table"
    store.delete(COUNTS)
    build(entry)
    assert state_of(entry) is State.CURRENT


@pytest.mark.servers
def test_a_missing_input_raises_the_error_of_the_derived_object(store):
    with pytest.raises(PermanentError, match="There is no text"):
        build(LineCounts(store))


@dataclass
class SlowLineCounts(LineCounts):
    """Reads its input, then another builder is faster."""

    is_overtaken: bool = False

    def make(self, start: Start[Manifest], /) -> dict[str, Made[Manifest]]:
        made = super().make(start)
        if not self.is_overtaken:
            self.is_overtaken = True
            self.store.put(TEXT, b"one\ntwo\nthree\n")
            build(LineCounts(self.store))
        return made


@pytest.mark.servers
@pytest.mark.fault(35)
def test_a_write_whose_response_was_lost_is_recognised(store, entry):
    """The client repeated its request and lost against itself: the object is there, byte by byte."""

    class LosesAnswers(ObjectStore):
        def replace(self, key: str, data: bytes | memoryview, e_tag: str | None) -> bool:
            assert super().replace(key, data, e_tag)
            return False

    assert not build(LineCounts(LosesAnswers(store.clients, store.url))).skipped
    assert lines(store) == 1


@pytest.mark.servers
@pytest.mark.fault(32)
@pytest.mark.parametrize("is_stored", [False, True], ids=["missing", "stale"])
def test_the_slower_of_two_builders_does_not_replace_the_newer_table(store, entry, *, is_stored):
    if is_stored:
        build(entry)
        store.put(TEXT, b"one\ntwo\n")
    slow = SlowLineCounts(store)
    late = build(slow)
    assert (late.skipped, lines(store)) == (True, 3)
    assert len(slow.made) == 1, "what the slow one has made was never stored"


@pytest.mark.servers
def test_a_builder_that_always_loses_gives_up(store, entry):
    class AlwaysOvertaken(LineCounts):
        def make(self, start: Start[Manifest], /) -> dict[str, Made[Manifest]]:
            made = super().make(start)
            self.store.put(TEXT, b"more\n" * (len(self.made) + 1))
            build(LineCounts(self.store))
            self.store.put(TEXT, b"even more\n")
            return made

    with pytest.raises(TransientError, match=r"builds of line_counts of 2026-03-01 lost the race"):
        build(AlwaysOvertaken(store))


WANTED = Origin({"a": "1", "b": "2"}, "new")


@pytest.mark.parametrize(
    ("stored", "state"),
    [
        pytest.param([None], State.MISSING, id="missing"),
        pytest.param([WANTED, None], State.MISSING, id="half missing"),
        pytest.param([WANTED, WANTED], State.CURRENT, id="current"),
        pytest.param([WANTED, Origin({"a": "1", "b": "1"}, "new")], State.STALE, id="half stale"),
        pytest.param([Origin({"a": "1"}, "new")], State.STALE, id="one input more"),
        pytest.param([Origin({"a": "0", "b": "2"}, "old")], State.STALE, id="stale and old"),
        pytest.param([Origin(WANTED.inputs, "old")], State.OTHER_RECIPE, id="old"),
    ],
)
def test_the_state_of_stored_objects(stored, state):
    assert judge(stored, WANTED) is state
