"""Results are appended to CSV files as classic detectors and trackers do, each row once, wherever a follower dies."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from imgpipeline.contracts.detection import Detection, Kind
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.errors import ConfigurationError
from imgpipeline.ledger.follow import LostCheckpointError
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.publish.detections import publish_detections
from imgpipeline.publish.live_tracks import publish_live_tracks
from imgpipeline.publish.transactions import Form, Publication, Run
from imgpipeline.settings import load_settings
from imgpipeline_tests.ledger.samples import NOON, append, frame, write_chain
from imgpipeline_tests.publish.killing import publish_and_die
from imgpipeline_tests.tracking.films import Car, film

HEADER = "frame_id,video_id,timestamp,label,confidence,x1,y1,x2,y2"


def seen(number: int, *labels: str) -> Frame:
    found = tuple(Detection(label, 1, 0.75, (10.6, 20.2, 30.0, 40.5)) for label in labels)
    return replace(frame(number), attributes={"video_id": "uav", "frame_id": f"frame_{number:05d}"}, detections=found)


def rows(*numbers: int) -> list[str]:
    times = ["2026-01-09T12:00:00", *(f"2026-01-09T12:00:00.00{number}000" for number in range(1, 10))]
    return [f"frame_{number:05d},uav,{times[number]},car,0.75,10,20,40,60" for number in numbers]


def follow(store: ObjectStore, file: Path, kind: Kind = Kind.CARS) -> int:
    return publish_detections(Run(store, load_settings()), Publication("", Form.CLASSIC, kind, file))


def lines(file: Path) -> Sequence[str]:
    return file.read_text().splitlines()


def test_a_file_has_rows_only_for_what_was_found_and_grows_with_the_ledger(memory, tmp_path):
    file = tmp_path / "car_detections.csv"
    chain = write_chain(memory, [seen(0, "car"), seen(1), seen(2, "person"), seen(3, "car", "car")])
    assert follow(memory, file) == 4
    assert lines(file) == [HEADER, *rows(0, 3, 3)]
    assert follow(memory, file) == 0
    append(chain, [seen(4), seen(5, "car")])
    assert follow(memory, file) == 2
    assert lines(file) == [HEADER, *rows(0, 3, 3, 5)]


def test_a_file_of_another_program_is_continued(memory, tmp_path):
    file = tmp_path / "car_detections.csv"
    file.write_text(f"{HEADER}\nframe_00009,old,2025-01-01T00:00:00,car,0.5,1,2,3,4\n")
    before = lines(file)
    write_chain(memory, [seen(0, "car")])
    follow(memory, file)
    assert lines(file) == [*before, *rows(0)]


def test_a_file_that_was_moved_away_is_begun_anew_with_the_next_rows(memory, tmp_path):
    file = tmp_path / "car_detections.csv"
    chain = write_chain(memory, [seen(0, "car")])
    follow(memory, file)
    file.rename(tmp_path / "car_detections.csv.1")
    append(chain, [seen(1, "car")])
    follow(memory, file)
    assert lines(file) == [HEADER, *rows(1)]


def test_tracks_have_their_own_columns(memory, tmp_path):
    file = tmp_path / "car_tracks.csv"
    cars = [Car(NOON, NOON + timedelta(minutes=1))]
    write_chain(memory, film(NOON, NOON + timedelta(seconds=3), cars, rate=5))
    assert publish_live_tracks(Run(memory, load_settings()), Publication("", Form.CLASSIC, Kind.CARS, file)) == 15
    header, *found = lines(file)
    assert header == "frame_id,video_id,timestamp,track_id,x1,y1,x2,y2,confidence,class_id"
    assert found[-1] == "frame_00014,gate,2026-01-09T12:00:02.800000,720001,10.14,100.0,90.14,160.0,0.9,0"
    assert 0 < len(found) < 15, "the first frames have no tracks yet"


def test_a_file_holds_one_kind_of_results_of_one_ledger(memory, tmp_path):
    file = tmp_path / "car_detections.csv"
    write_chain(memory, [seen(0, "car")])
    follow(memory, file)
    with pytest.raises(ConfigurationError, match="has detections-cars, not detections-people"):
        follow(memory, file, Kind.PEOPLE)
    with pytest.raises(LostCheckpointError):
        follow(open_memory_store(), file)
    Path(f"{file}.checkpoint").write_text("{}")
    with pytest.raises(ConfigurationError, match="is not a checkpoint"):
        follow(memory, file)


def test_only_one_process_follows_into_a_file(memory, tmp_path):
    file = tmp_path / "car_detections.csv"
    write_chain(memory, [seen(0, "car")])

    def other_starts() -> bool:
        with pytest.raises(ConfigurationError, match="another process"):
            follow(memory, file)
        return False

    run = Run(memory, load_settings(), should_continue=other_starts)
    publish_detections(run, Publication("", Form.CLASSIC, Kind.CARS, file))
    assert lines(file) == [HEADER, *rows(0)]


def test_a_file_that_cannot_be_written_is_an_error(memory, tmp_path):
    write_chain(memory, [seen(0, "car")])
    with pytest.raises(ConfigurationError, match="No such file"):
        follow(memory, tmp_path / "absent" / "car_detections.csv")


@pytest.mark.slow
@pytest.mark.parametrize("step", ["publish batch", "rows appended"])
def test_a_follower_that_is_killed_leaves_no_duplicate_and_no_hole(tmp_path, step):
    settings = load_settings(store_url=f"file://{tmp_path}/store")
    store, file = open_store(settings), tmp_path / "car_detections.csv"
    chain = write_chain(store, [seen(number, "car") for number in range(3)])
    follow(store, file)
    append(chain, [seen(number, "car") for number in range(3, 5)])
    publish_and_die(settings, step, "detections", "--csv-file", str(file), "--kind", "cars")
    append(chain, [seen(number, "car") for number in range(5, 8)])
    follow(store, file)
    assert lines(file) == [HEADER, *rows(*range(8))]
