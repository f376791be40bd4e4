"""On simulated people that hide behind pillars, unique counts are wrong by at most half of what plain ByteTrack is."""

import pytest

from imgpipeline.tracking.following import follow_slice
from imgpipeline_tests.tracking.counting import count_objects, mean_interval
from imgpipeline_tests.tracking.scenes import parameters, street

SCENES = 12


@pytest.mark.medium
def test_the_unique_count_error_is_at_most_half_of_plain_bytetracks():
    plain, stitched, objects = [], [], 0
    for seed in range(SCENES):
        scene = street(seed, objects=20, duration_s=60)
        tracks = follow_slice(scene.frames, [], parameters())
        objects += scene.objects
        plain.append(abs(count_objects(scene.frames, tracks, stitched=False) - scene.objects) / scene.objects)
        stitched.append(abs(count_objects(scene.frames, tracks, stitched=True) - scene.objects) / scene.objects)
    assert objects >= 200
    _, highest = mean_interval(stitched)
    lowest, _ = mean_interval(plain)
    assert highest <= lowest / 2, f"stitched up to {highest:.3f}, plain from {lowest:.3f}"
