"""`imgpipeline tracks`, `rules`, `events` and `alerts`, on a store in a folder."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from imgpipeline.errors import ConfigurationError
from imgpipeline.events.configuration import parse_rules, read_rules
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.query.lake import Lake
from imgpipeline.lake.schema.events import EVENT_TABLES, LINE_CROSSINGS, ZONE_OCCUPANCY
from imgpipeline.settings import load_settings
from imgpipeline_tests.cli.command import REPOSITORY, run
from imgpipeline_tests.cli.samples import OpenStore
from imgpipeline_tests.daily.builds import build_table, build_tracks
from imgpipeline_tests.events.samples import CHANGE, LINE, NOON, ROAD, STOP, ZONE, at, png, rotated, stored_frames
from imgpipeline_tests.ledger.samples import DAY, write_chain
from imgpipeline_tests.servers.notified import Received, web_server
from imgpipeline_tests.tracking.films import Car, film

pytestmark = pytest.mark.medium


@pytest.fixture
def rules_file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(ZONE + LINE + CHANGE)
    return path


def test_the_example_of_every_kind_of_rule_is_valid(tmp_path):
    ended = run("rules", "check", REPOSITORY / "deploy" / "rules.toml", cwd=tmp_path)
    assert (ended.status, "The rules are valid" in ended.stderr) == (0, True), ended.stderr


def test_check_lists_the_rules_and_refuses_wrong_ones_by_line(rules_file, tmp_path):
    given = {"IMGPIPELINE_RULES_FILE": str(rules_file)}
    ended = run("rules", "check", env=given, cwd=tmp_path)
    assert (ended.status, "image_change" in ended.stdout) == (0, True)
    assert ended.stderr == "The rules are valid: 1 zone, 1 line, 1 rule.\n"
    rules_file.write_text(CHANGE + "threshold = -1\n")
    ended = run("rules", "check", rules_file, cwd=tmp_path)
    assert ended.status == 1
    assert 'line 4: rule "changed": threshold: ' in ended.stderr


def test_draw_shows_zones_and_lines_on_an_image(rules_file, tmp_path):
    cv2.imwrite(str(tmp_path / "frame.png"), np.full((100, 200, 3), 80, np.uint8))
    ended = run("rules", "draw", "frame.png", "--rules", rules_file, "--output", "drawn.jpg", cwd=tmp_path)
    assert (ended.status, ended.stderr) == (0, "Drew yard, door on drawn.jpg.\n")
    drawn = cv2.imread(str(tmp_path / "drawn.jpg"))
    assert drawn.shape == (100, 200, 3)
    upper, lower = drawn[5:20, 100:].astype(int), drawn[85:95, 100:].astype(int)
    assert np.abs(upper - 80).max() < 20
    assert np.abs(lower - 80).mean() > 10
    ended = run("rules", "draw", "frame.png", "--rules", rules_file, "--output", "absent/drawn.jpg", cwd=tmp_path)
    assert (ended.status, "The output absent/drawn.jpg cannot be written" in ended.stderr) == (1, True)
    ended = run("rules", "draw", "frame.png", "--rules", rules_file, "--source", "roof", cwd=tmp_path)
    assert (ended.status, "name one of: cam-1" in ended.stderr) == (2, True)


def test_put_stores_checked_rules(folder_site, rules_file, tmp_path):
    ended = run("rules", "put", rules_file, env=folder_site, cwd=tmp_path)
    assert ended.status == 0
    assert "set IMGPIPELINE_RULES_FILE=store" in ended.stderr
    stored = {**folder_site, "IMGPIPELINE_RULES_FILE": "store"}
    assert run("rules", "check", env=stored, cwd=tmp_path).status == 0
    rules_file.write_text("[[rule]]\n")
    assert run("rules", "put", rules_file, env=stored, cwd=tmp_path).status == 1
    assert run("rules", "check", env=stored, cwd=tmp_path).status == 0


def test_events_are_listed_queried_and_read_from_notebooks(folder_site, store_of, rules_file, tmp_path):
    site = {**folder_site, "IMGPIPELINE_RULES_FILE": str(rules_file)}
    ended = run("events", "list", env=folder_site, cwd=tmp_path)
    assert "IMGPIPELINE_RULES_FILE is not set" in ended.stderr
    store, settings = store_of(site), load_settings()
    write_chain(store, stored_frames(store, rotated()))
    rebuild_day(store, DAY, now=NOON)
    assert "imgpipeline build --day" in run("events", "list", env=site, cwd=tmp_path).stderr
    for table in EVENT_TABLES:
        build_table(store, DAY, table, rules=read_rules(settings, store), settings=settings, now=NOON)
    listed = run("events", "list", "--json", env=site, cwd=tmp_path).json()
    assert [(row["rule"], row["timestamp"]) for row in listed] == [
        ("changed", "2026-01-09T12:00:06.000000Z"),
        ("changed", "2026-01-09T12:00:02.000000Z"),
    ]
    shown = run("events", "list", "--limit", "1", env=site, cwd=tmp_path)
    assert "Showing the latest 1 of 2 events (all days)" in shown.stderr
    rows = list(csv.DictReader(io.StringIO(run("events", "list", "--csv", env=site, cwd=tmp_path).stdout)))
    assert [row["event_id"] for row in rows] == [row["event_id"] for row in listed]
    made = run("events", "clip", listed[0]["event_id"], "--output", "clip.gif", env=site, cwd=tmp_path)
    assert made.stderr == "Wrote 10 frames to clip.gif, 2026-01-09T12:00:00Z to 2026-01-09T12:00:09Z.\n"
    cut = run("events", "clip", listed[0]["event_id"], "--output", "clip.mp4", "--limit", "2", env=site, cwd=tmp_path)
    assert "--limit shows more" in cut.stderr
    assert {file.name for file in tmp_path.glob("*clip*")} == {"clip.gif", "clip.mp4"}
    assert "No events match" in run("events", "list", "--rule", "other", env=site, cwd=tmp_path).stderr
    asked = run("query", "SELECT count(*) AS n FROM events", "--json", env=site, cwd=tmp_path).json()
    assert asked == [{"n": 2}]
    with Lake.open(settings) as lake:
        assert list(lake.events(day=DAY)["event_id"]) == [row["event_id"] for row in listed]


@pytest.mark.slow
def test_counts_at_zones_and_lines_are_shown_queried_and_read_from_notebooks(folder_site, store_of, tmp_path):
    store, settings = store_of(folder_site), load_settings()
    ended = run("summary", "lines", env=folder_site, cwd=tmp_path)
    assert (ended.status, "Nothing was counted" in ended.stderr) == (0, True)
    write_chain(store, film(at(5), at(25), [Car(at(5), at(25))]))
    rebuild_day(store, DAY, now=NOON)
    build_tracks(store, DAY, settings=settings, now=NOON)
    for table in (ZONE_OCCUPANCY, LINE_CROSSINGS):
        build_table(store, DAY, table, rules=parse_rules(ROAD + STOP, name="rules"), settings=settings, now=NOON)
    (zone,) = run("summary", "zones", "--json", env=folder_site, cwd=tmp_path).json()
    assert (zone["zone"], zone["objects"], zone["occupied_s"]) == ("road", 1, 1195.0)
    shown = run("summary", "lines", "--source", "gate", env=folder_site, cwd=tmp_path).stdout
    assert "crossings" in shown
    assert run("summary", "lines", "--label", "dog", "--json", env=folder_site, cwd=tmp_path).json() == []
    asked = run("query", "SELECT sum(crossings) AS n FROM line_crossings", "--json", env=folder_site, cwd=tmp_path)
    assert asked.json() == [{"n": 1}]
    with Lake.open(settings) as lake:
        assert list(lake.zone_occupancy(day=DAY)["zone"]) == ["road"]
        assert list(lake.line_crossings(day=DAY, source="gate")["direction"]) == ["out"]


@pytest.fixture
def site(folder_site: dict[str, str], store_of: OpenStore, tmp_path: Path) -> dict[str, str]:
    """A store with ten images, two of which differ from their predecessor, and the rule that finds them."""
    store = store_of(folder_site)
    write_chain(store, stored_frames(store, rotated()))
    path = tmp_path / "rules.toml"
    path.write_text(CHANGE)
    # A hundred years: the frames of the samples have a fixed day.
    return {**folder_site, "IMGPIPELINE_RULES_FILE": str(path), "IMGPIPELINE_ALERT_MAX_AGE_S": "3e9"}


def test_an_alert_shows_image_and_previous_and_difference_under_a_durable_number(site, tmp_path):
    assert "There are no alerts." in run("alerts", "list", env=site, cwd=tmp_path).stderr
    for _ in range(2):  # the second run finds nothing new, and does not number from 1 again
        ended = run("alerts", "watch", "--duration", "1", env=site, cwd=tmp_path)
        assert ended.status == 0, ended.stderr
        assert ended.stderr.startswith("Watching for events of 1 rule. Ctrl-C stops.\n")
    listed = json.loads(run("alerts", "list", "--json", env=site, cwd=tmp_path).stdout)
    assert [alert["number"] for alert in listed] == [2, 1]
    ended = run("alerts", "show", "2", "--output", "shown", env=site, cwd=tmp_path)
    assert (ended.status, "images/cam-1/00006.jpg" in ended.stdout) == (0, True)
    before, after, difference = sorted((tmp_path / "shown").iterdir())
    assert [file.stem.rpartition("-")[2] for file in (before, after, difference)] == ["before", "after", "difference"]
    assert (before.read_bytes(), after.read_bytes()) == (rotated()[5], rotated()[6])
    assert difference.read_bytes() not in (before.read_bytes(), after.read_bytes())
    ended = run("alerts", "show", "3", env=site, cwd=tmp_path)
    assert (ended.status, "There is no alert 3." in ended.stderr) == (2, True)


def test_an_alert_records_who_was_notified_and_who_acknowledged_it(site, tmp_path):
    received: Received = []
    with web_server(received) as port:
        given = {**site, "IMGPIPELINE_ALERT_TARGETS": f"json://127.0.0.1:{port}"}
        assert run("alerts", "test", env=given, cwd=tmp_path).status == 0
        assert run("alerts", "watch", "--duration", "1", env=given, cwd=tmp_path).status == 0
    assert [message["title"] for message in received] == [
        "imgpipeline: test",
        "Alert 1: changed at cam-1",
        "Alert 2: changed at cam-1",
    ]
    assert run("alerts", "deliver", "--retry", env=given, cwd=tmp_path).status == 0
    assert run("alerts", "acknowledge", "1", "--note", "a fox", "--by", "ann", env=site, cwd=tmp_path).status == 0
    shown = json.loads(run("alerts", "show", "1", "--json", env=site, cwd=tmp_path).stdout)
    assert (shown["delivered"], shown["acknowledged"]) == ("yes", "ann")
    assert [len(attempt["accepted"]) for attempt in shown["attempts"]] == [1]
    assert [given["note"] for given in shown["acknowledgements"]] == ["a fox"]
    with Lake.open(site["IMGPIPELINE_STORE_URL"]) as lake:
        alerts = lake.alerts()
        assert list(alerts["event_id"]) == [json.loads(line)["event_id"] for line in _shown(site, tmp_path, "2", "1")]
        assert alerts["is_delivered"].all()
        assert [list(names) for names in alerts["acknowledged_by"]] == [[], ["ann"]]
        assert len(lake.alerts(limit=1)) == 1


def _shown(site: dict[str, str], folder: Path, *numbers: str) -> list[str]:
    return [run("alerts", "show", number, "--json", env=site, cwd=folder).stdout for number in numbers]


@pytest.mark.parametrize("target", ["tgram://CANARY", "slak://A/B/CANARY", "mailto//user:CANARY@mail.example"])
def test_a_wrong_target_of_alerts_is_refused_without_showing_it(folder_site, rules_file, tmp_path, target):
    site = {**folder_site, "IMGPIPELINE_RULES_FILE": str(rules_file), "IMGPIPELINE_ALERT_TARGETS": target}
    ended = run("alerts", "watch", "--duration", "1", env=site, cwd=tmp_path)
    assert ended.status == 1
    assert "the URL of target 1 of 1" in ended.stderr
    assert "CANARY" not in ended.stdout + ended.stderr


TRACK = "gate/car/20260109T1200/1"


def test_tracks_are_built_listed_and_counted(folder_site, store_of, tmp_path):
    store = store_of(folder_site)
    write_chain(store, film(NOON, at(3), [Car(NOON, at(2)), Car(NOON, at(1), "dog", y=300)]))
    rebuild_day(store, DAY, now=NOON)
    empty = run("tracks", "list", "--day", str(DAY), env=folder_site, cwd=tmp_path)
    assert "imgpipeline build --day" in empty.stderr
    built = build_tracks(store, DAY, settings=load_settings(), now=NOON)
    assert (built.slices_followed, built.skipped) == (1, False)
    listed = run("tracks", "list", "--label", "dog", "--json", env=folder_site, cwd=tmp_path).json()
    assert [(row["track_id"], row["stay_s"], row["points"]) for row in listed] == [
        ("gate/dog/20260109T1200/1", 55.0, 12)
    ]
    counted = run("summary", "objects", "--day", str(DAY), "--csv", env=folder_site, cwd=tmp_path)
    assert counted.stdout.splitlines()[1].startswith("2026-01-09,2026-01-09T12:00:00.000000Z,gate,car,1,1,115.0")


def test_the_best_image_is_shown_with_the_one_object(folder_site, store_of, tmp_path):
    store, settings = store_of(folder_site), load_settings()
    end = at(0, 30)
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
