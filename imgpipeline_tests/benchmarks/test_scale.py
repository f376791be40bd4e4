"""docs/scale.md shows what the model of sizes computes, and the settings that it recommends need no advice."""

import pytest

from benchmarks.scale import PAGE, SITES, Site, build_s, render, tables
from imgpipeline.settings import Settings
from imgpipeline.settings.sizes import advise


def test_the_page_shows_what_the_model_computes():
    page = PAGE.read_text(encoding="utf-8")

    assert "<!-- sizes -->\nWhat a site needs:" in page
    assert render(page, tables()) == page


@pytest.mark.parametrize("site", SITES, ids=str)
def test_recommended_settings_are_valid_and_need_no_advice(site):
    settings = Settings(
        lanes=site.lanes,
        max_run_s=site.max_run_s,
        commit_interval_s=site.commit_interval_s,
        redetect_part_frames=site.redetect_part_frames,
    )

    assert advise(settings, site.partitions) == []


def test_a_site_of_10_to_the_9_frames_a_day_needs_the_lanes_that_its_rate_needs():
    site = Site(1_000, 1e9)

    assert 11_574 * 1.5 / 107.5 <= site.lanes < 11_574 * 1.5 / 107.5 + 1
    assert site.segments_a_day == pytest.approx(site.busy_partitions * 8_640)
    assert site.busy_partitions < site.partitions == 3 * site.lanes


def test_one_camera_fills_one_partition_whatever_the_topic_has():
    assert Site(1, 1e6).busy_partitions == pytest.approx(1)


def test_a_day_of_a_million_frames_takes_as_long_as_it_was_measured():
    assert build_s(1e6, 0) == pytest.approx(8.62)
