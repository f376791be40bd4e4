"""The same detections give the same tracks, and no track crosses a gap, an outage or a change of the frame rate."""

import functools
import random
import subprocess
import sys
from collections import Counter

import pytest

from imgpipeline.errors import ConfigurationError
from imgpipeline.tracking.following import find_stretches, follow_slice
from imgpipeline.tracking.values import EndedBy, SliceTrack, parse_groups, slice_start, track_id
from imgpipeline_tests.tracking.counting import count_objects, mean_interval
from imgpipeline_tests.tracking.scenes import (
    START,
    START_US,
    Scene,
    every,
    frame,
    moving,
    parameters,
    seconds,
    street,
)

TEN_A_SECOND = every(0.1, 50)
SCENES = 12


@functools.cache
def followed_street(seed: int) -> tuple[Scene, list[SliceTrack]]:
    """Return a street whose truth is known, and its tracks."""
    scene = street(seed, objects=20, duration_s=60)
    return scene, follow_slice(scene.frames, [], parameters())


def test_one_car_is_one_track_with_all_of_its_detections():
    frames = moving(TEN_A_SECOND)
    (track,) = follow_slice(frames, [], parameters())
    assert [point.frame for point in track.points] == list(range(50))
    assert (track.number, track.ended_by, track.frame_rate) == (1, EndedBy.SLICE, pytest.approx(10))


def test_a_car_that_is_missed_for_less_than_a_second_stays_one_track():
    frames = moving(TEN_A_SECOND, without=range(20, 27))
    (track,) = follow_slice(frames, [], parameters())
    assert len(track.points) == 43


def test_a_box_in_a_single_frame_is_in_no_track():
    frames = moving(TEN_A_SECOND, without=set(range(50)) - {20})
    assert follow_slice(frames, [], parameters()) == []


def test_the_same_detections_give_the_same_tracks():
    frames = street(7, objects=10, duration_s=40).frames
    first = follow_slice(frames, [], parameters())
    follow_slice(street(8, objects=5, duration_s=30).frames, [], parameters())
    assert follow_slice(frames, [], parameters()) == first
    assert [track.number for track in first] == list(range(1, len(first) + 1))


def test_each_detection_is_in_one_track_at_most():
    frames = street(9, objects=15, duration_s=40).frames
    tracks = follow_slice(frames, [], parameters())
    used = [(point.frame, point.detection) for track in tracks for point in track.points]
    assert len(used) == len(set(used))
    for track in tracks:
        times = [frames[point.frame].time_us for point in track.points]
        assert times == sorted(set(times))


def test_numbers_follow_the_order_of_the_first_points():
    late = [frame(n, [(500, 300, 580, 360)] if n >= 10 else [], at_s=n / 10) for n in range(30)]
    both = [
        frame(n, [*early.boxes_xyxy.tolist(), *other.boxes_xyxy.tolist()], at_s=n / 10)
        for n, (early, other) in enumerate(zip(moving(every(0.1, 30), x=50, speed=5), late, strict=True))
    ]
    tracks = follow_slice(both, [], parameters())
    assert [track.points[0].frame for track in tracks] == [0, 10]


def test_a_gap_ends_tracks_and_nothing_is_stitched_over_it():
    times = [*every(0.1, 30), *every(0.1, 30, start_s=5.5)]
    frames = moving(times, speed=1)
    before, after = follow_slice(frames, [], parameters())
    assert (before.ended_by, after.ended_by) == (EndedBy.GAP, EndedBy.SLICE)
    assert after.stitched_after is None
    assert seconds(frames, after)[0] == pytest.approx(5.5)


def test_an_outage_that_the_source_reported_ends_tracks():
    frames = moving(TEN_A_SECOND, speed=1)
    before, after = follow_slice(frames, [START_US + 2_450_000], parameters())
    assert (before.ended_by, len(before.points), len(after.points)) == (EndedBy.OUTAGE, 25, 25)
    assert after.stitched_after is None


def test_a_start_at_the_first_frame_ends_no_track():
    assert len(follow_slice(moving(TEN_A_SECOND), [START_US, START_US - 1], parameters())) == 1


@pytest.mark.parametrize(("fast_s", "slow_s"), [(0.1, 0.5), (0.5, 0.1), (0.04, 0.1)], ids=["slower", "faster", "25-10"])
def test_a_change_of_the_frame_rate_ends_tracks_at_that_frame(fast_s, slow_s):
    times = every(fast_s, 40)
    frames = moving([*times, *every(slow_s, 40, start_s=times[-1] + slow_s)], speed=1)
    before, after = follow_slice(frames, [], parameters())
    assert before.ended_by is EndedBy.FRAME_RATE
    assert abs(len(before.points) - 40) <= 1
    assert (before.frame_rate, after.frame_rate) == (pytest.approx(1 / fast_s), pytest.approx(1 / slow_s))


def test_missing_single_frames_do_not_change_the_frame_rate():
    rng = random.Random(3)  # noqa: S311 - it hides nothing
    times = [t for t in every(0.1, 300) if rng.random() > 0.1]
    assert [s.end - s.first for s in find_stretches([round(t * 1e6) for t in times], [], 2.0)] == [len(times)]


def test_a_camera_with_a_frame_every_five_seconds_has_tracks():
    frames = moving(every(5.0, 60), speed=1)
    (track,) = follow_slice(frames, [], parameters())
    assert (len(track.points), track.frame_rate) == (60, pytest.approx(0.2))


def test_a_hidden_car_is_lost_and_its_next_track_is_stitched_to_the_first():
    frames = moving(every(0.1, 80), without=range(30, 55))
    lost, found = follow_slice(frames, [], parameters())
    assert (lost.ended_by, found.stitched_after) == (EndedBy.LOST, lost.number)


def test_false_alarms_at_one_place_are_no_object():
    """A detector that finds something in every third frame only finds a shadow, or a sign."""
    frames = [frame(n, [(300, 200, 340, 300)] if n % 3 == 0 else [], at_s=n / 10) for n in range(60)]
    assert follow_slice(frames, [], parameters()) == []


def test_an_object_that_is_often_missed_counts_once_it_was_seen_for_long():
    frames = moving(every(0.1, 200), speed=10, without=[n for n in range(200) if n % 5 in (1, 3)])
    (track,) = follow_slice(frames, [], parameters())
    assert len(track.points) >= 115
    assert follow_slice(frames[:100], [], parameters()) == []


def test_a_track_that_two_others_could_continue_is_stitched_to_neither():
    box = (300, 200, 340, 300)
    beside = [(296, 200, 336, 300), (304, 200, 344, 300)]
    frames = [frame(n, [box] if n < 30 else [] if n < 50 else beside, at_s=n / 10) for n in range(90)]
    assert {track.stitched_after for track in follow_slice(frames, [], parameters())} == {None}


@pytest.mark.medium
@pytest.mark.parametrize("tracker", ["bytetrack", "ocsort", "cbiou"])
def test_each_tracker_finds_a_car_from_its_first_detection_on(tracker):
    frames = moving(TEN_A_SECOND, without=[20, 21])
    (track,) = follow_slice(frames, [], parameters(tracker=tracker))
    assert [point.frame for point in track.points][:20] == list(range(20))
    assert len(track.points) in (47, 48), "OC-SORT leaves out the first detection after a miss"


def test_frames_that_are_faster_than_any_camera_have_no_tracks():
    assert follow_slice(moving(every(1e-6, 50)), [], parameters()) == []


@pytest.mark.slow
@pytest.mark.medium
def test_at_least_four_of_five_stitched_pairs_are_one_person():
    right = wrong = 0
    for seed in range(SCENES):
        scene, followed = followed_street(seed)
        tracks = {track.number: track for track in followed}
        seen = {
            number: Counter(scene.truth[point.frame][point.detection] for point in track.points).most_common(1)[0][0]
            for number, track in tracks.items()
        }
        pairs = [(seen[track.stitched_after], seen[number]) for number, track in tracks.items() if track.stitched_after]
        right += sum(one == other for one, other in pairs)
        wrong += sum(one != other for one, other in pairs)
    assert right >= 200
    assert right >= 0.95 * (right + wrong), (right, wrong)


def test_a_stitch_time_of_zero_stitches_nothing():
    frames = moving(every(0.1, 80), without=range(30, 55))
    assert [track.stitched_after for track in follow_slice(frames, [], parameters(track_stitch_s=0))] == [None, None]


def test_a_car_that_moves_the_other_way_is_not_stitched():
    away = moving(every(0.1, 30), x=100, speed=50)
    back = moving(every(0.1, 30, start_s=4.0), x=800, speed=-50)
    frames = [*away, *(frame(100 + n, [], at_s=3 + n / 10) for n in range(10)), *back]
    assert [track.stitched_after for track in follow_slice(frames, [], parameters())] == [None, None]


def test_weak_detections_continue_tracks_but_start_none():
    strong, weak = moving(every(0.1, 20)), moving(every(0.1, 40))
    faint = [frame(n, each.boxes_xyxy.tolist(), at_s=n / 10, confidence=0.15) for n, each in enumerate(weak)]
    (track,) = follow_slice([*strong, *faint[20:]], [], parameters())
    assert len(track.points) == 40
    assert follow_slice(faint, [], parameters()) == []


@pytest.mark.filterwarnings("error")
def test_two_frames_of_the_same_time_are_followed_without_a_warning():
    frames = moving([*every(0.1, 20), 1.9, *every(0.1, 20, start_s=2.0)])
    (track,) = follow_slice(frames, [], parameters())
    assert len(track.points) == 41


@pytest.mark.medium
def test_stitching_at_least_halves_the_error_of_unique_counts():
    """The simulated people hide behind pillars."""
    plain, stitched, objects = [], [], 0
    for seed in range(SCENES):
        scene, tracks = followed_street(seed)
        objects += scene.objects
        plain.append(abs(count_objects(scene.frames, tracks, stitched=False) - scene.objects) / scene.objects)
        stitched.append(abs(count_objects(scene.frames, tracks, stitched=True) - scene.objects) / scene.objects)
    assert objects >= 200
    _, highest = mean_interval(stitched)
    lowest, _ = mean_interval(plain)
    assert highest <= lowest / 2, f"stitched up to {highest:.3f}, plain from {lowest:.3f}"


def test_no_frames_give_no_tracks():
    assert follow_slice([], [], parameters()) == []


def test_groups_are_named_by_their_first_label_and_other_labels_have_none():
    groups = parse_groups("person; car,van , truck;; bicycle,motorbike")
    assert [groups[label] for label in ("person", "van", "motorbike")] == ["person", "car", "bicycle"]
    assert "dog" not in groups


def test_a_label_in_two_groups_is_refused():
    with pytest.raises(ConfigurationError, match="'van' is in two groups"):
        parse_groups("car,van; truck,van")


def test_an_id_names_source_group_slice_and_number():
    start = slice_start(START.replace(minute=19, second=59))
    assert track_id("gate", "car", start, 3) == "gate/car/20260109T1210/3"


def test_following_is_loaded_without_the_tracking_library():
    """Loading it takes a second, which the code location and every command would pay."""
    loaded = "import sys, imgpipeline.tracking.following; print({'trackers', 'supervision'} & sys.modules.keys())"
    asked = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "set()"
