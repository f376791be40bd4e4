"""Lines, zones and dwell times count objects exactly, also those that are hidden for a while."""

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.query.lake import open_arrow_lake
from imgpipeline.lake.schema.events import EVENTS, LINE_CROSSINGS, ZONE_OCCUPANCY
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_table, build_tracks
from imgpipeline_tests.events.samples import NOON, rules
from imgpipeline_tests.ledger.samples import DAY, frame, write_chain

Way = Callable[[float], tuple[float, float] | None]
"""Where a person's feet are at a second of the scene, in images of 640 x 480 pixels; None while they are not seen."""
LINE_X = 320.0


def walking(speed: float = 60, *, start_s: float = 2, y: float = 300, x: float = 30) -> Way:
    """Walk to the right, or with a negative speed to the left, through the whole image."""
    begin = x if speed > 0 else 640 - x
    return lambda s: (begin + speed * (s - start_s), y) if 0 <= (s - start_s) * abs(speed) <= 640 - 2 * x else None


def hidden(way: Way, hidden_s: float, *, at_s: float = 2 + (LINE_X - 30) / 60) -> Way:
    """Hide somebody for some seconds, in the middle of which they are at the line."""
    return lambda s: None if abs(s - at_s) < hidden_s / 2 else way(s)


def turning_back(s: float) -> tuple[float, float] | None:
    x = 30 + 60 * (s - 2) if s < 6.5 else 300 - 60 * (s - 6.5)
    return (x, 300) if s >= 2 and x >= 30 else None


def jittering(s: float) -> tuple[float, float] | None:
    """Stand at the line for 15 seconds, in which the box jitters by two pixels, and walk on."""
    if s < 2 + 290 / 60:
        return walking()(s)
    if s < 22:
        return LINE_X + 2 * math.sin(40 * s), 300 + 2 * math.cos(31 * s)
    return walking(start_s=22 - 290 / 60)(s)


SCENES: dict[str, tuple[list[Way], int, int]] = {
    "plain": ([walking()], 1, 0),
    "past the ends": ([walking(y=470)], 0, 0),
    "jitter on the line": ([jittering], 1, 0),
    "turning back": ([turning_back], 0, 0),
    "passing pairs": ([walking(), walking(-60, y=390), walking(start_s=20), walking(-60, start_s=20, y=390)], 2, 2),
    "running": ([walking(180), walking(-180, start_s=12)], 1, 1),
    "slice boundary": ([walking(start_s=600 - 290 / 60)], 1, 0),
    "slice boundary, hidden": ([hidden(walking(start_s=600 - 290 / 60), 3, at_s=600)], 1, 0),
    **{f"hidden for {s} s": ([hidden(walking(), s), hidden(walking(start_s=20), s, at_s=20 + 290 / 60)], 2, 0)
       for s in (0.8, 1.8, 3)},
}  # fmt: skip
"""Ways, crossings to the right, and crossings to the left."""


def film(name: str, ways: list[Way], rate: float, *, offset: int, duration_s: float) -> list[Frame]:
    frames = []
    for n in range(int(duration_s * rate)):
        feet = [at for way in ways if (at := way(n / rate))]
        boxes = [Detection("person", 0, 0.9, (x - 20, y - 80, 40, 80)) for x, y in feet]
        at = NOON + timedelta(seconds=n / rate)
        frames.append(replace(frame(offset + n, DAY, name), timestamp=at, detections=tuple(boxes)))
    return frames


def counted(
    folder: Path, ways: dict[str, list[Way]], rate: float, text: str, query: str, duration_s: float = 45
) -> list[tuple]:
    """Build a day of these scenes, each with a source of its own, and ask for its counts."""
    settings = Settings(_env_file=None, store_url=folder.as_uri())
    store = open_store(settings)
    offset = 0
    for name, of_scene in ways.items():
        length_s = 620 if "slice" in name else duration_s
        frames = film(name, of_scene, rate, offset=offset, duration_s=length_s)
        write_chain(store, frames)
        offset += len(frames)
    rebuild_day(store, DAY, now=NOON)
    build_tracks(store, DAY, settings=settings, now=NOON)
    for table in (LINE_CROSSINGS, ZONE_OCCUPANCY, EVENTS):
        build_table(store, DAY, table, rules=rules(text), settings=settings, now=NOON)
    with open_arrow_lake(settings) as lake, lake.session(day=DAY) as session:
        return session.query(query).rows


@pytest.mark.medium
@pytest.mark.parametrize("rate", [pytest.param(10, marks=pytest.mark.slow), 5])
def test_crossings_of_known_scenes_are_exact(tmp_path, rate):
    line = '[[line]]\nname = "{0}"\nsource = "{0}"\npoints = [[0.5, 0.1], [0.5, 0.9]]\n'
    line += 'forward = "left"\nbackward = "right"\n'
    ways = {name: of_scene for name, (of_scene, _, _) in SCENES.items()}
    text = "".join(line.format(name) for name in SCENES)
    found = counted(tmp_path, ways, rate, text, "SELECT source, direction, crossings FROM line_crossings")
    counts = {name: [0, 0] for name in SCENES}
    for name, direction, count in found:
        counts[name][direction == "left"] += count
    assert counts == {name: [right, left] for name, (_, right, left) in SCENES.items()}


@pytest.mark.slow
@pytest.mark.parametrize("rate", [10, 5])
def test_everybody_who_stays_for_half_a_minute_dwells_once_and_counts_once_in_the_zone(tmp_path, rate):
    """Of 24 people, 11 stand still for 34 seconds, hidden three times; the others walk through."""
    gaps = [(8, 0.8), (16, 1.8), (25, 3.0)]

    def standing(x: float, y: float, start_s: float) -> Way:
        def way(s: float) -> tuple[float, float] | None:
            is_hidden = any(abs(s - start_s - at) < length / 2 for at, length in gaps)
            return (x, y) if 0 <= s - start_s <= 34 and not is_hidden else None

        return way

    stays = [standing(60 + 50 * n, 250 + 100 * (n % 2), 5 + 7 * n) for n in range(11)]
    passes = [walking(60 + 5 * n, start_s=140 + 12 * n, y=240 + 10 * n) for n in range(13)]
    text = (
        '[[zone]]\nname = "yard"\nsource = "gate"\npoints = [[0, 0.4], [1, 0.4], [1, 0.95], [0, 0.95]]\n'
        '[[rule]]\nname = "stays"\nkind = "dwell_time"\nzone = "yard"\nseconds = 30\n'
    )
    query = "SELECT (SELECT sum(objects) FROM zone_occupancy), (SELECT count(*) FROM events)"
    assert counted(tmp_path, {"gate": [*stays, *passes]}, rate, text, query, 320) == [(24, 11)]
