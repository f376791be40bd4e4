"""`imgpipeline tracks`: build, list and count from the command line."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imgpipeline.lake.build.day_tables import rebuild_day
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.ledger.samples import DAY, NOON, write_chain
from imgpipeline_tests.objectstore.stores import fresh_store
from imgpipeline_tests.tracking.films import Car, film

AT = datetime(2026, 1, 9, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.mark.medium
def test_tracks_are_built_listed_and_counted(request, tmp_path: Path):
    store = fresh_store("folder", request)
    write_chain(store, film(AT, AT + 3 * MINUTE, [Car(AT, AT + 2 * MINUTE), Car(AT, AT + MINUTE, "dog", y=300)]))
    rebuild_day(store, DAY, now=NOON)
    env = {"IMGPIPELINE_STORE_URL": store.url, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    empty = run("tracks", "list", "--day", str(DAY), env=env, cwd=tmp_path)
    assert "tracks build --day" in empty.stderr
    (built,) = run("tracks", "build", "--day", str(DAY), "--json", env=env, cwd=tmp_path).json()
    assert (built["tracks"], built["slices_followed"], built["skipped"]) == (2, 1, False)
    listed = run("tracks", "list", "--label", "dog", "--json", env=env, cwd=tmp_path).json()
    assert [(row["track_id"], row["stay_s"], row["points"]) for row in listed] == [
        ("gate/dog/20260109T1200/1", 55.0, 12)
    ]
    counted = run("tracks", "unique", "--day", str(DAY), "--csv", env=env, cwd=tmp_path)
    assert counted.stdout.splitlines()[1].startswith("2026-01-09,2026-01-09T12:00:00.000000Z,gate,car,1,1,1,115.0")
