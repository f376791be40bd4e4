"""Frames are drawn by hashes of the population: at random, and the same for everybody."""

from datetime import date

from imgpipeline.accuracy.sampling import asking_order, draw_runs, in_tenth, run_bounds, seed_of

DAY = date(2026, 3, 1)
FRAMES = [f"frame-{number:05}" for number in range(1_003)]
SEED = seed_of(DAY, "yard", FRAMES)


def test_the_seed_follows_from_the_day_the_source_and_the_population():
    others = [
        seed_of(date(2026, 3, 2), "yard", FRAMES),
        seed_of(DAY, "gate", FRAMES),
        seed_of(DAY, None, FRAMES),
        seed_of(DAY, "None", FRAMES),
        seed_of(DAY, "yard", FRAMES[:-1]),
        seed_of(DAY, "yard", FRAMES[::-1]),
        seed_of(DAY, "yard", ["".join(FRAMES)]),
    ]
    assert seed_of(DAY, "yard", list(FRAMES)) == SEED
    assert len({SEED, *others}) == 1 + len(others)


def test_runs_are_as_equal_as_possible_and_cover_the_population():
    bounds = run_bounds(1_003, 240)
    assert [start for start, _ in bounds[1:]] == [stop for _, stop in bounds[:-1]]
    assert (bounds[0][0], bounds[-1][1]) == (0, 1_003)
    assert {stop - start for start, stop in bounds} == {4, 5}


def test_one_frame_of_each_run_is_drawn():
    drawn = draw_runs(FRAMES, 240, SEED)
    runs = [FRAMES[start:stop] for start, stop in run_bounds(len(FRAMES), 240)]
    assert all(frame_id in run for frame_id, run in zip(drawn, runs, strict=True))
    assert draw_runs(FRAMES, 240, SEED) == drawn
    assert draw_runs(FRAMES, 240, seed_of(DAY, "gate", FRAMES)) != drawn


def test_each_frame_of_a_run_is_drawn_as_often_as_the_others():
    times = dict.fromkeys(FRAMES[:4], 0)
    for number in range(2_000):
        (frame_id,) = draw_runs(FRAMES[:4], 1, str(number))
        times[frame_id] += 1
    assert all(430 < number < 570 for number in times.values())


def test_a_further_draw_takes_other_frames_until_a_run_has_none_left():
    taken = {run: set() for run in range(3)}
    for _ in range(2):
        for run, frame_id in enumerate(draw_runs(FRAMES[:7], 3, SEED, taken)):
            taken[run].add(frame_id)
    assert [len(frames) for frames in taken.values()] == [2, 2, 2]
    assert [frame is None for frame in draw_runs(FRAMES[:7], 3, SEED, taken)] == [True, True, False]


def test_more_samples_than_frames_leave_runs_without_a_frame():
    drawn = draw_runs(FRAMES[:3], 5, SEED)
    assert [frame for frame in drawn if frame] == FRAMES[:3]
    assert len(drawn) == 5


def test_frames_are_asked_in_an_order_of_the_seed_alone():
    order = asking_order(FRAMES, SEED)
    assert sorted(order) == FRAMES != order
    assert asking_order(reversed(FRAMES), SEED) == order
    assert asking_order(FRAMES, "another seed") != order


def test_about_a_tenth_is_blind_and_another_tenth_is_for_two_people():
    blind = {frame_id for frame_id in FRAMES if in_tenth("blind", SEED, frame_id)}
    for_two = {frame_id for frame_id in FRAMES if in_tenth("two", SEED, frame_id)}
    assert 70 < len(blind) < 130
    assert 70 < len(for_two) < 130
    assert 0 < len(blind & for_two) < 30
