"""`imgpipeline tracks`: build, list and count from the command line."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from imgpipeline.errors import ConfigurationError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.query.lake import Lake
from imgpipeline.objectstore import open_store
from imgpipeline.settings import load_settings
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.daily.builds import build_tracks
from imgpipeline_tests.events.samples import png
from imgpipeline_tests.ledger.samples import DAY, NOON, write_chain
from imgpipeline_tests.objectstore.stores import fresh_store
from imgpipeline_tests.tracking.films import Car, film

AT = datetime(2026, 1, 9, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TRACK = "gate/car/20260109T1200/1"


@pytest.mark.medium
def test_tracks_are_built_listed_and_counted(request, tmp_path: Path):
    store = fresh_store("folder", request)
    write_chain(store, film(AT, AT + 3 * MINUTE, [Car(AT, AT + 2 * MINUTE), Car(AT, AT + MINUTE, "dog", y=300)]))
    rebuild_day(store, DAY, now=NOON)
    env = {"IMGPIPELINE_STORE_URL": store.url, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    empty = run("tracks", "list", "--day", str(DAY), env=env, cwd=tmp_path)
    assert "imgpipeline build --day" in empty.stderr
    built = build_tracks(store, DAY, settings=load_settings(store_url=store.url), now=NOON)
    assert (built.slices_followed, built.skipped) == (1, False)
    listed = run("tracks", "list", "--label", "dog", "--json", env=env, cwd=tmp_path).json()
    assert [(row["track_id"], row["stay_s"], row["points"]) for row in listed] == [
        ("gate/dog/20260109T1200/1", 55.0, 12)
    ]
    counted = run("summary", "objects", "--day", str(DAY), "--csv", env=env, cwd=tmp_path)
    assert counted.stdout.splitlines()[1].startswith("2026-01-09,2026-01-09T12:00:00.000000Z,gate,car,1,1,1,115.0")


@pytest.mark.medium
def test_the_best_image_is_shown_with_the_one_object(folder_site, tmp_path, monkeypatch: pytest.MonkeyPatch):
    for name, value in folder_site.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    store = open_store(settings)
    end = NOON + timedelta(seconds=30)
    frames = [
        replace(frame, source_image_path=f"images/gate/{n}.png")
        for n, frame in enumerate(film(NOON, end, [Car(NOON, end), Car(NOON, end, y=300.0)]))
    ]
    for n, frame in enumerate(frames):
        store.put(frame.source_image_path, png(np.full((480, 640, 3), 10 * n, np.uint8)))
    write_chain(store, frames)
    rebuild_day(store, DAY, now=NOON)
    build_tracks(store, DAY, settings=settings, now=NOON)
    with Lake.open(settings) as lake:
        tracks = lake.tracks(DAY).set_index("track_id")
        best = next(n for n, frame in enumerate(frames) if frame.frame_id == tracks.best_frame_id[TRACK])
        drawn = lake.track_preview(TRACK)
        with pytest.raises(ConfigurationError, match="There is no track"):
            lake.track_preview(TRACK.replace("/1", "/9"))
    assert (drawn[:50] == 10 * best).all()
    at_first, at_second = drawn[100:160], drawn[300:360]
    has_object = [bool((part != 10 * best).any()) for part in (at_first, at_second)]
    assert sorted(has_object) == [False, True]
    ended = run("tracks", "show", TRACK, "--output", "track.jpg", env=folder_site, cwd=tmp_path)
    assert (ended.status, ended.stderr) == (0, f"Drew {TRACK} on track.jpg.\n")
    assert (tmp_path / "track.jpg").read_bytes().startswith(b"\xff\xd8")
    assert run("tracks", "show", "gate", "--output", "x.jpg", env=folder_site, cwd=tmp_path).status == 1
    ended = run("tracks", "show", TRACK, "--output", "absent/x.jpg", env=folder_site, cwd=tmp_path)
    assert "The output absent/x.jpg cannot be written" in ended.stderr
