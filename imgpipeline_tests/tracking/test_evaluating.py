"""Tracks are compared with ground truth by the metrics of MOT Challenge."""

from pathlib import Path

import pytest

from imgpipeline.errors import ConfigurationError
from imgpipeline.tracking.evaluating import Quality, evaluate, read_sequence, read_truth
from imgpipeline_tests.tracking.scenes import parameters


def sequence(folder: Path, *, hidden: range = range(0), rate: int = 10) -> Path:
    """Write a sequence of 80 frames in which one car drives to the right and is hidden in some."""
    rows = [f"{n + 1},1,{100 + 5 * n},300,80,60,1,-1,-1,-1" for n in range(80)]
    (folder / "gt.txt").write_text("\n".join(rows) + "\n")
    found = [row.replace(",1,", ",-1,", 1) for n, row in enumerate(rows) if n not in hidden]
    (folder / "det.txt").write_text("\n".join(found) + "\n")
    (folder / "seqinfo.ini").write_text(f"[Sequence]\nframeRate={rate}\n")
    return folder


@pytest.mark.medium
def test_perfect_detections_of_one_car_are_tracked_perfectly(tmp_path):
    found = evaluate(read_sequence(sequence(tmp_path)), parameters(), least_s=1)
    for quality in found.values():
        assert (quality.hota, quality.idf1, quality.mota) == pytest.approx((1, 1, 1))
        assert (quality.id_switches, quality.objects, quality.true_objects, quality.unique_error) == (0, 1, 1, 0)


@pytest.mark.medium
def test_a_hidden_car_costs_plain_tracks_an_id_switch_and_a_wrong_count(tmp_path):
    found = evaluate(read_sequence(sequence(tmp_path, hidden=range(30, 55))), parameters(), least_s=1)
    plain, stitched = found["tracks"], found["objects"]
    assert (plain.id_switches, plain.objects, plain.unique_error) == (1, 2, 1)
    assert (stitched.id_switches, stitched.objects, stitched.unique_error) == (0, 1, 0)
    assert stitched.idf1 > plain.idf1


@pytest.mark.data
@pytest.mark.medium
def test_a_real_sequence_is_tracked_no_worse_than_before(shared_data):
    found = evaluate(read_sequence(shared_data / "mot" / "TUD-Campus"), parameters(), least_s=1)
    for quality in found.values():
        assert quality.hota >= 0.45
        assert quality.idf1 >= 0.58
        assert quality.mota >= 0.55
        assert quality.unique_error <= 0.4


def test_a_folder_without_truth_and_a_file_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"neither det\.txt nor det/det\.txt"):
        read_sequence(tmp_path)
    with pytest.raises(ConfigurationError, match=r"gt\.txt is not a folder.*--source and --day"):
        read_sequence(sequence(tmp_path) / "gt.txt")


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "no true objects"), ("1,3,5,5,10,10,0\n", "no true objects"), ("1,-1,5,5,10,10,0.9\n", "negative ids")],
)
def test_a_truth_without_objects_and_detections_as_a_truth_are_refused(tmp_path, text, said):
    (sequence(tmp_path) / "gt.txt").write_text(text)
    with pytest.raises(ConfigurationError, match=rf"gt\.txt has .*{said}"):
        read_sequence(tmp_path)
    with pytest.raises(ConfigurationError, match=rf"gt\.txt has .*{said}"):
        read_truth(tmp_path / "gt.txt")


def test_detections_without_a_box_are_refused(tmp_path):
    (sequence(tmp_path) / "det.txt").write_text("")
    with pytest.raises(ConfigurationError, match=r"det\.txt has no box"):
        read_sequence(tmp_path)


def test_the_error_of_a_count_of_nothing_is_unknown():
    assert Quality(0.5, 0.5, 0.5, 0, objects=3, true_objects=0).unique_error is None


def test_a_line_in_another_format_is_named(tmp_path):
    (sequence(tmp_path) / "det.txt").write_text("1,-1,5,5,10,10,0.9\nframe,box\n")
    with pytest.raises(ConfigurationError, match=r"det\.txt, line 2"):
        read_sequence(tmp_path)


@pytest.mark.parametrize("line", ["nan,-1,5,5,10,10,0.9", "inf,-1,5,5,10,10,0.9"])
def test_a_frame_that_is_not_a_number_is_named(tmp_path, line):
    (sequence(tmp_path) / "det.txt").write_text(f"{line}\n")
    with pytest.raises(ConfigurationError, match=r"det\.txt, line 1"):
        read_sequence(tmp_path)


@pytest.mark.parametrize(
    "text", ["frameRate=10", "[Sequence]\nframeRate=fast", "[Sequence]\nframeRate=0", "[Sequence]\nframeRate=1000"]
)
def test_a_wrong_frame_rate_is_refused(tmp_path, text):
    (sequence(tmp_path) / "seqinfo.ini").write_text(text)
    with pytest.raises(ConfigurationError, match=r"seqinfo\.ini"):
        read_sequence(tmp_path)
