"""What docs/restore.md says holds: after each loss, the past has the same numbers, and new frames are counted."""

import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from imgpipeline.contracts.times import utc_now
from imgpipeline.daily.states import day_states, due_days
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.quality.audit import AuditReport, audit
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.ledger.reading import fix_ends
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline.stream.log import read_logs
from imgpipeline_tests.defs.keeping import Keeping
from imgpipeline_tests.detect.conftest import LaneUnderTest, lane  # noqa: F401 - a fixture
from imgpipeline_tests.detect.test_lane_and_log import make_anew
from imgpipeline_tests.faults.child_runs import environment_of
from imgpipeline_tests.faults.invariant import shown
from imgpipeline_tests.lake.samples import counted_days
from imgpipeline_tests.servers.kafka_broker import KafkaBroker

pytestmark = [pytest.mark.slow, pytest.mark.servers]
REPOSITORY = Path(__file__).resolve().parents[1]
FRAMES = 6
LEDGER = ("metadata/", "metadata_days/", "images/")
"""What docs/restore.md copies last, in its order."""


@pytest.fixture
def site(
    lane: LaneUnderTest,  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> LaneUnderTest:
    """A day that was detected and built by Dagster."""
    for name, value in environment_of(lane.settings).items():
        monkeypatch.setenv(name, value)
    lane.announce(FRAMES)
    lane.follow()
    with new_dagster(tmp_path / "first") as instance:
        built = Keeping(lane.store, instance)
        runs = built.run(built.requests())
        assert runs
        assert all(run.success for run in runs)
    return lane


def new_dagster(home: Path) -> dg.DagsterInstance:
    """Open the storage of a new DAGSTER_HOME, which holds only `dagster.yaml`."""
    home.mkdir()
    shutil.copy(REPOSITORY / "dagster.yaml", home)
    return dg.DagsterInstance.from_config(str(home))


def numbers(store: ObjectStore, settings: Settings) -> dict[str, Any]:
    """Return the frames and the rows of every summary."""
    with open_lake(store, settings=settings, summaries=SUMMARIES) as opened:
        assert {name: counted_days(opened, name) for name in SUMMARIES} == {name: [] for name in SUMMARIES}
        rows = {name: sorted(map(repr, opened.query(f"FROM {name}").rows)) for name in SUMMARIES}
    return {"shown": shown(store), **rows}


def stored(store: ObjectStore) -> dict[str, str | None]:
    """Return the e-tag of each object but the checkpoints of readers, which are caches."""
    return {info.key: info.e_tag for info in store.list_objects() if not info.key.startswith("metadata_followers/")}


def audited(settings: Settings) -> AuditReport:
    """Audit everything against the logs that Kafka has now."""
    logs = read_logs(settings)
    assert not logs.unreadable
    return audit(open_store(settings), lambda: logs.ranges, full=True, now=utc_now())


def is_current(settings: Settings) -> bool:
    return due_days(day_states(open_store(settings), settings, now=utc_now())) == {}


def test_a_new_server_and_a_new_kafka_over_the_old_bucket_have_the_same_numbers(site, tmp_path, monkeypatch):
    before = numbers(site.store, site.settings)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    with KafkaBroker(tmp_path / "kafka") as broker, new_dagster(tmp_path / "second") as instance:
        broker.create_topic(site.settings.kafka_topic)
        again = site.with_settings(kafka_bootstrap_servers=broker.bootstrap_servers)

        assert numbers(again.store, again.settings) == before
        assert is_current(again.settings)
        assert not Keeping(again.store, instance).requests()
        assert audited(again.settings).ok


def test_a_copy_in_the_documented_order_is_current_sound_and_goes_on(site, bucket):
    before = numbers(site.store, site.settings)
    restored = site.with_settings(store_url=f"{bucket.url}/copy")
    keys = [info.key for info in site.store.list_objects()]
    first = [key for key in keys if not key.startswith(LEDGER)]
    for key in first + [key for prefix in LEDGER for key in keys if key.startswith(prefix)]:
        restored.store.put(key, site.store.get(key))

    assert numbers(restored.store, restored.settings) == before
    assert is_current(restored.settings)
    assert audited(restored.settings).ok
    site.announce(2, first=FRAMES)
    restored.follow()
    assert [frame.offset for frame in restored.frames()] == list(range(FRAMES + 2))


def test_a_new_dagster_builds_nothing(site, tmp_path):
    before = numbers(site.store, site.settings)
    objects = stored(site.store)
    with new_dagster(tmp_path / "second") as instance:
        keeping = Keeping(site.store, instance)
        assert [keeping.requests(), keeping.requests()] == [[], []]

    assert numbers(site.store, site.settings) == before
    assert stored(site.store) == objects


def test_a_topic_that_is_created_again_gets_a_chain_of_its_own(site):
    before = numbers(site.store, site.settings)
    (old,) = fix_ends(site.store)
    make_anew(site)
    assert audited(site.settings).ok
    assert numbers(site.store, site.settings) == before

    site.announce(FRAMES - 2)  # announced once more: the same frames
    site.announce(3, first=FRAMES)
    site.follow()

    ends = {chain: end.offset for chain, end in fix_ends(site.store).items()}
    assert (ends.pop(old), list(ends.values())) == (FRAMES, [FRAMES - 2 + 3])
    frames, _ = shown(site.store)
    assert len(frames) == FRAMES + 3
    report = audited(site.settings)
    assert report.ok
    assert [chain for chains in report.without_log.values() for chain in chains] == [old]
