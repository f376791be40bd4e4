"""A full disk, a damaged model: what the environment breaks fails the run by name, and no frame is blamed for it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import PermanentError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.vision.registry import find_model
from imgpipeline_tests.detect.conftest import START, LaneUnderTest, jpeg
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.servers.disks import fill, mounted_disk

DAY = START.date()
INLINE = {"content-type": b"image/jpeg", "source": b"camera", "timestamp": b"2026-03-01T12:00:00Z"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    with mounted_disk(tmp_path / "disk", 1024) as folder:
        yield folder


def on_disk(lane: LaneUnderTest, disk: Path) -> LaneUnderTest:
    return lane.with_settings(store_url=(disk / "store").as_uri())


def objects(lane: LaneUnderTest, prefix: str) -> list[str]:
    return sorted(info.key for info in lane.store.list_objects(prefix))


@pytest.mark.fault(18)
@pytest.mark.parametrize("inline", [False, True], ids=["segment", "inline image"])
def test_fault_18_a_full_disk_is_named_leaves_no_partial_output_and_the_next_run_works(
    lane: LaneUnderTest, disk: Path, inline: bool
) -> None:
    own = on_disk(lane, disk)
    if inline:
        own.send(jpeg(), headers=INLINE)
    else:
        own.announce(3)
    filler = fill(disk)

    with pytest.raises(PermanentError, match=rf"{disk}.*disk is full.*IMGPIPELINE_STORE_URL"):
        own.follow()
    assert objects(own, "metadata") == []
    assert objects(own, "images") == ([] if inline else ["images/camera/one.jpg"])

    filler.unlink()
    assert own.follow().lag == 0
    held = check(own.settings)
    assert (len(held.frames), held.codes) == (1 if inline else 3, {})


@pytest.mark.fault(18)
def test_fault_18_a_full_spill_folder_fails_a_build_by_name_and_leaves_the_tables(
    lane: LaneUnderTest, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the folder of a query's cache."""
    lane.announce(3)
    lane.follow()
    rebuild_day(lane.store, DAY, now=utc_now())
    lane.announce(5, first=3)
    lane.follow()
    before = {info.key: info.e_tag for info in lane.store.list_objects("frames")}
    filler = fill(disk)
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(disk))
        with pytest.raises(PermanentError, match=str(disk)):
            rebuild_day(lane.store, DAY, now=utc_now())
        with pytest.raises(PermanentError, match=str(disk)), open_lake(lane.store, cache_dir=disk / "cache") as lake:
            lake.query("SELECT * FROM frames")
        assert {info.key: info.e_tag for info in lane.store.list_objects("frames")} == before
        filler.unlink()
        assert rebuild_day(lane.store, DAY, now=utc_now()).of("frames").rows == 8
        assert [path.name for path in disk.iterdir()] in ([], ["cache"])
    assert len(check(lane.settings).frames) == 8


@pytest.mark.fault(39)
def test_fault_39_good_frames_of_a_damaged_model_file_fail_the_next_run_and_are_no_dead_letters(
    lane: LaneUnderTest, tmp_path: Path
) -> None:
    """A run that has the model loaded works on with it; the next one cannot load it, and names the file."""
    shipped = find_model("demo")
    model, labels = tmp_path / "own.onnx", tmp_path / "labels.txt"
    model.write_bytes(shipped.path.read_bytes())
    labels.write_text("\n".join(shipped.labels))
    own = lane.with_settings(model=str(model), model_decoder="yolox", model_labels=labels)
    own.announce(3)
    own.follow()
    model.write_bytes(model.read_bytes()[:1000])
    own.announce(3, first=3)
    with pytest.raises(PermanentError, match=str(model)):
        own.follow()
    held = check(own.settings, drained=False)
    assert (len(held.frames), held.codes) == (3, {})

    model.write_bytes(shipped.path.read_bytes())
    own.follow()
    held = check(own.settings)
    assert (len(held.frames), held.codes) == (6, {})


@pytest.mark.fault(39)
def test_fault_39_a_full_temporary_folder_makes_no_frame_a_dead_letter(
    lane: LaneUnderTest, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking at pictures needs no temporary file: the run goes on."""
    lane.announce(3)
    fill(disk)
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(disk))
        patched.setenv("TMPDIR", str(disk))
        lane.follow()
    held = check(lane.settings)
    assert (len(held.frames), held.codes) == (3, {})
