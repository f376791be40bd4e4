"""A store that an earlier release wrote is read, audited, extended, bundled and built again; no number changes."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from imgpipeline.contracts.keys import day_table_key, report_key
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.errors import PermanentError
from imgpipeline.lake.build.day_tables import DayTables, rebuild_day, stale_days
from imgpipeline.lake.build.derived import Derived, State, state_of
from imgpipeline.lake.build.summaries import SUMMARIES, DaySummary, build_summary
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.ledger import fix_ends
from imgpipeline.ledger.bundles.making import bundle_ledger
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.redetect.attempt import Redetector
from imgpipeline.redetect.choice import load_chosen, parse_choice
from imgpipeline.redetect.comparison import DayComparison
from imgpipeline.redetect.run import DayRedetection, redetect_day
from imgpipeline.reports.build import DailyReport, build_report
from imgpipeline.settings import Settings, load_settings
from imgpipeline_tests.golden.answers import CHAINS, DAYS, NOW, audit_golden, read_answers
from imgpipeline_tests.golden.write_store import RecordWriter, announced

FOLDER = Path(__file__).parent


pytestmark = pytest.mark.slow


@pytest.fixture(params=["store_v1"])
def name(request: pytest.FixtureRequest) -> str:
    """The golden store."""
    return str(request.param)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a copy."""
    monkeypatch.chdir(tmp_path)
    return load_settings(store_url=(tmp_path / "store").as_uri())


@pytest.fixture
def store(name: str, settings: Settings, tmp_path: Path) -> ObjectStore:
    """A copy of the golden store."""
    with tarfile.open(FOLDER / f"{name}.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    return open_store(settings)


@pytest.fixture
def answers(name: str) -> dict[str, Any]:
    """What the release that wrote it has answered."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def build_all(settings: Settings, store: ObjectStore, *, force: bool = False) -> None:
    for day in DAYS:
        rebuild_day(store, day, force=force, now=NOW)
        for summary in SUMMARIES:
            build_summary(store, summary, day, settings=settings, now=NOW)


def test_queries_answer_as_before_any_day_is_built_again(store: ObjectStore, answers: dict[str, Any]):
    assert read_answers(store) == answers


def test_queries_answer_as_before_after_every_day_was_built_again(
    settings: Settings, store: ObjectStore, answers: dict[str, Any]
):
    build_all(settings, store)
    assert stale_days(store) == []
    assert read_answers(store) == answers
    build_all(settings, store, force=True)
    assert read_answers(store) == answers
    assert audit_golden(store, full=True).problems == ()


def test_a_query_reads_only_what_is_newer_than_the_tables(store: ObjectStore, tmp_path: Path):
    with open_lake(store, cache_dir=tmp_path / "cache") as lake:
        assert lake.snapshot.newer_frames == 1
        assert lake.query("SELECT count(*) FROM notices").rows == [(0,)]
        assert lake.query("SELECT count(kafka_offset), count(DISTINCT day) FROM dead_letters").rows == [(3, 2)]


def test_what_needs_a_built_day_names_the_command(settings: Settings, store: ObjectStore):
    with pytest.raises(PermanentError, match=r"columns of version 2, expected 4.*--partition 2026-03-01"):
        build_summary(store, "label_counts", DAYS[0], settings=settings, now=NOW)


def test_the_audit_finds_no_problem(store: ObjectStore):
    continued = audit_golden(store)
    assert continued.ok, continued.problems
    assert audit_golden(store, full=True).ok


def test_new_frames_are_added_to_what_is_there(settings: Settings, store: ObjectStore, answers: dict[str, Any]):
    RecordWriter(settings, store, CHAINS[1]).write(
        [*announced(store, DAYS[1], "gate", [24, 25]), announced(store, DAYS[1], "gate", [23])[0]], day=DAYS[1]
    )
    before_build = read_answers(store)
    old_frames, new_frames = answers["frames"], before_build["frames"]
    assert [row for row in new_frames if row in old_frames] == old_frames
    assert len(new_frames) == len(old_frames) + 2
    build_all(settings, store)
    assert read_answers(store) == before_build
    assert audit_golden(store, full=True).ok


def test_a_range_is_bundled_and_read_as_before(settings: Settings, store: ObjectStore, answers: dict[str, Any]):
    to = RecordWriter(settings, store, CHAINS[0])
    for _ in range(30):
        to.append([Gap(0, 400, GapReason.COMPACTED)])
    assert bundle_ledger(store).bundles == 1
    again = read_answers(store)
    unchanged = answers.keys() - {"segments", "audit"}
    assert {query: again[query] for query in unchanged} == {query: answers[query] for query in unchanged}
    assert audit_golden(store, full=True).ok


def test_the_report_and_the_redetection_are_made_again(settings: Settings, store: ObjectStore):
    build_all(settings, store)
    made = build_report(store, settings, DAYS[0], now=NOW)
    assert store.get(report_key(DAYS[0]))
    assert made.headline.frames == 10
    choice = parse_choice("demo@0.05", settings)
    found = redetect_day(
        Redetector(settings, store, str(choice), load_chosen(choice, settings), lambda: NOW, "again"), DAYS[0]
    )
    assert (found.manifest.processed, found.manifest.gated, found.manifest.detections) == (8, 2, 48)


def test_every_derived_object_says_what_it_was_made_of(settings: Settings, store: ObjectStore):
    """The contract reads the manifests of earlier releases; none of them counts as damaged."""
    day, model = DAYS[0], parse_choice("demo@0.05", settings)
    again = Redetector(settings, store, str(model), load_chosen(model, settings), lambda: NOW, "again")
    ends = {chain: end.offset for chain, end in fix_ends(store).items()}
    entries: list[Derived[Any]] = [
        DayTables(store, day, ends, NOW),
        *(DaySummary(store, summary, day, settings, NOW) for summary in SUMMARIES.values()),
        DayRedetection(again, day, lambda _done, _all: None),
        DayComparison(settings, store, day, NOW),
        DailyReport(store, settings, day, NOW, None),
    ]
    for entry in entries:
        for key, stored in entry.read().items():
            if key == day_table_key("notices", day):  # it came with version 3
                assert stored is None
                continue
            assert stored is not None, key
            origin = entry.origin(stored.manifest)
            assert all(origin.inputs.values()), key
    build_all(settings, store)
    for entry in entries:
        assert state_of(entry) in (State.STALE, State.OTHER_RECIPE, State.CURRENT), entry.name
