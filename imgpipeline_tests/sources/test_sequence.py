"""Numbered images as a source: their order, numbers and times."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imgpipeline.errors import ConfigurationError
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline.sources.ingest import ingest_source
from imgpipeline.sources.sequence import SequenceSource
from imgpipeline.sources.sequence_info import find_info
from imgpipeline_tests.sources.published import closes, frames_in, read_published
from imgpipeline_tests.sources.test_folder import NOON, write_picture

PLAIN = Settings(_env_file=None)


def write_mot(folder: Path, *, rate: str = "14", images: str = "img1") -> None:
    for number in (1, 2, 3):
        write_picture(folder / images / f"{number:06d}.jpg", shade=number * 40)
    (folder / "gt").mkdir()
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname=MOT17-02\nimDir={images}\nframeRate={rate}\nseqLength=3\nimExt=.jpg\n"
    )


def test_a_sequence_of_visdrone_is_one_source_with_its_bytes_unchanged(settings, tmp_path):
    folder = tmp_path / "sequences" / "uav0000086_00000_v"
    contents = [write_picture(folder / f"{number:07d}.jpg", shade=number) for number in range(1, 31)]
    store = open_memory_store()
    for _ in range(2):
        totals = ingest_source(settings, SequenceSource(settings, folder, rate=10, start=NOON), store=store)
        assert (totals.announced, closes(totals)) == (30, True)

    frames = frames_in(read_published(settings))
    assert [frame.frame_number for frame in frames] == [*range(1, 31)] * 2
    assert {frame.source for frame in frames} == {"uav0000086_00000_v"}
    assert [frame.timestamp for frame in frames[:30]] == [NOON + timedelta(seconds=n / 10) for n in range(30)]
    assert [store.get(str(frame.image_path)) for frame in frames[:30]] == contents
    assert {frame.image_path for frame in frames[:30]} == {frame.image_path for frame in frames[30:]}


@pytest.mark.parametrize("named", ["folder", "images"])
def test_rate_and_name_of_a_mot_sequence_come_from_its_seqinfo(tmp_path, named):
    write_mot(tmp_path / "MOT17-02-SDP")
    path = tmp_path / "MOT17-02-SDP" / ("img1" if named == "images" else "")
    source = SequenceSource(PLAIN, path, start=NOON)
    assert (source.name, source.rate, len(source.files)) == ("MOT17-02", 14.0, 3)
    assert source.pace
    assert source.pace.time_of(source.files[-1].number) == NOON + timedelta(seconds=round(2 / 14, 6))


def test_numbers_decide_the_order_and_a_missing_one_leaves_a_gap_in_time(tmp_path):
    for name in ("img_1.jpg", "img_2.jpg", "img_10.jpg", "img_9.png"):
        write_picture(tmp_path / name)
    source = SequenceSource(PLAIN, tmp_path, rate=2, start=NOON)
    assert [file.name for file in source.files] == ["img_1.jpg", "img_2.jpg", "img_9.png", "img_10.jpg"]
    assert source.pace
    assert source.pace.time_of(source.files[-1].number) == NOON + timedelta(seconds=4.5)


def test_files_that_are_not_part_of_the_sequence_are_listed(tmp_path):
    for name in ("0001.jpg", "1.jpg", "cover.jpg", ".2.jpg"):
        write_picture(tmp_path / name)
    (tmp_path / "readme.txt").touch()
    source = SequenceSource(PLAIN, tmp_path, start=NOON)
    assert {skipped.path: skipped.reason for skipped in source.skipped} == {
        ".2.jpg": "hidden",
        "1.jpg": "0001.jpg has the same number",
        "cover.jpg": "its name has no number",
        "readme.txt": "not an image",
    }


def test_without_a_start_the_time_of_the_first_image_counts(tmp_path):
    write_picture(tmp_path / "1.jpg", time=datetime(2026, 2, 3, tzinfo=UTC))
    write_picture(tmp_path / "2.jpg", time=datetime(2026, 2, 9, tzinfo=UTC))
    pace = SequenceSource(PLAIN, tmp_path).pace
    assert pace
    assert pace.time_of(2) == datetime(2026, 2, 3, 0, 0, 0, 40_000, tzinfo=UTC)


def test_an_invalid_folder_or_seqinfo_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="There is no folder"):
        SequenceSource(PLAIN, tmp_path / "absent")
    write_picture(tmp_path / "plain" / "cover.jpg")
    with pytest.raises(ConfigurationError, match="contains no numbered images"):
        SequenceSource(PLAIN, tmp_path / "plain")
    write_mot(tmp_path / "mot", rate="fast")
    with pytest.raises(ConfigurationError, match="frameRate is fast"):
        SequenceSource(PLAIN, tmp_path / "mot")


@pytest.mark.parametrize("width", ["wide", "0", "1.5"])
def test_an_invalid_size_in_a_seqinfo_is_refused_where_it_is_asked_for(tmp_path, width):
    write_mot(tmp_path / "mot")
    with (tmp_path / "mot" / "seqinfo.ini").open("a") as file:
        file.write(f"imWidth={width}\nimHeight=480\n")
    assert SequenceSource(PLAIN, tmp_path / "mot", start=NOON).rate == 14
    info = find_info(tmp_path / "mot")
    assert info
    with pytest.raises(ConfigurationError, match=rf"imWidth and imHeight: got '{width}x480'"):
        _ = info.size
