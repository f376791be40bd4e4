"""Frames become COCO and YOLO data sets: all boxes of the frames, corrected by annotations."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from imgpipeline.contracts.outcomes import Frame
from imgpipeline.export.annotations import Annotation, Mistake, keep, new_id, withdraw
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.web.viewer import frame_pages
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.lake.query.site import DAY, NEXT_DAY, Site, fill
from imgpipeline_tests.ledger.samples import NOON
from imgpipeline_tests.objectstore.stores import folder_settings
from imgpipeline_tests.web.viewer.filmed import FilmedSite, filmed_site

pytestmark = pytest.mark.medium


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(folder_settings(tmp_path))


@pytest.fixture
def site(store: ObjectStore) -> Site:
    return fill(store, {"IMGPIPELINE_STORE_URL": store.url})


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilmedSite]:
    with filmed_site(tmp_path_factory.mktemp("export")) as made:
        yield made


def frames_of(site: Site) -> list[Frame]:
    return sorted((one for one in site.frames if one.day == DAY), key=lambda one: one.timestamp, reverse=True)


def said(frame: Frame, mistake: Mistake, label: str, box: tuple[float, float, float, float] | None) -> Annotation:
    return Annotation(new_id(), frame.day, frame.frame_id, mistake, label, box, None, "", "anna", NOON)


def boxes_of(document: dict[str, Any]) -> dict[str, list[tuple[str, list[float]]]]:
    """Return label and box of every annotation by frame, as a reader of COCO finds them."""
    labels = {one["id"]: one["name"] for one in document["categories"]}
    found: dict[str, list[tuple[str, list[float]]]] = {one["frame_id"]: [] for one in document["images"]}
    names = {one["id"]: one["frame_id"] for one in document["images"]}
    for one in document["annotations"]:
        found[names[one["image_id"]]].append((labels[one["category_id"]], one["bbox"]))
    return found


def test_coco_has_every_frame_with_its_boxes_and_image(site, tmp_path):
    done = run("export", "coco", "set", "--day", str(DAY), "--json", env=site.environment, cwd=tmp_path).json()
    document = json.loads((tmp_path / "set" / "annotations.json").read_text())
    expected = {
        one.frame_id: [(found.label, list(found.box_xywh or ())) for found in one.detections] for one in frames_of(site)
    }
    assert boxes_of(document) == expected
    assert (done["frames"], done["boxes"]) == (len(expected), sum(map(len, expected.values())))
    assert [one["id"] for one in document["images"]] == list(range(1, len(expected) + 1))
    for image in document["images"]:
        assert (tmp_path / "set" / "images" / image["file_name"]).stat().st_size > 0
        assert (image["width"], image["height"]) == (64, 48)


def test_yolo_has_the_same_boxes_as_fractions_of_the_image(site, tmp_path):
    assert (
        run("export", "yolo", "set", "--day", str(DAY), "--no-images", env=site.environment, cwd=tmp_path).status == 0
    )
    names = yaml.safe_load((tmp_path / "set" / "data.yaml").read_text())["names"]
    assert not (tmp_path / "set" / "images").exists()
    for frame in frames_of(site):
        text = (tmp_path / "set" / "labels" / f"{DAY}_{frame.frame_id}.txt").read_text()
        rows = [line.split() for line in text.splitlines()]
        assert [names[int(row[0])] for row in rows] == [found.label for found in frame.detections]
        for row, found in zip(rows, frame.detections, strict=True):
            x, y, wide, high = (float(part) for part in row[1:])
            left, top, width, height = found.box_xywh or (0, 0, 0, 0)
            right, bottom = min(64, left + width), min(48, top + height)
            assert ((x - wide / 2) * 64, (x + wide / 2) * 64) == pytest.approx((max(0, left), right), abs=0.01)
            assert ((y - high / 2) * 48, (y + high / 2) * 48) == pytest.approx((max(0, top), bottom), abs=0.01)


def test_feedback_corrects_the_boxes_and_marks_the_frames(site, store, tmp_path):
    first, second = frames_of(site)[1:3]
    wrong = first.detections[0]
    keep(store, said(first, Mistake.WRONG, wrong.label, wrong.box_xywh))
    keep(store, said(first, Mistake.MISSING, "cat", (1.0, 2.0, 3.0, 4.0)))
    taken_back = said(second, Mistake.MISSING, "bird", (1.0, 2.0, 3.0, 4.0))
    keep(store, taken_back)
    withdraw(store, second.day, second.frame_id, taken_back.annotation_id, by="ben", at=NOON)
    call = ("export", "coco", "set", "--day", str(DAY), "--marked", "--no-images")
    assert run(*call, env=site.environment, cwd=tmp_path).status == 0
    document = json.loads((tmp_path / "set" / "annotations.json").read_text())
    kept = [(found.label, list(found.box_xywh or ())) for found in first.detections[1:]]
    assert boxes_of(document) == {first.frame_id: [*kept, ("cat", [1.0, 2.0, 3.0, 4.0])]}
    assert "bird" not in {one["name"] for one in document["categories"]}


def test_missing_images_are_named_and_their_boxes_kept(site, store, tmp_path):
    gone = frames_of(site)[0]
    store.delete(gone.source_image_path)
    done = run("export", "coco", "set", "--day", str(DAY), "--json", env=site.environment, cwd=tmp_path).json()
    assert done["missing"] == [gone.source_image_path]
    assert done["frames"] == len(frames_of(site))


def test_a_folder_that_is_not_empty_is_not_changed(site, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine").touch()
    (tmp_path / "set.partial").mkdir()  # of an export that was interrupted
    (tmp_path / "set.partial" / "old").touch()
    refused = run("export", "yolo", "set", "--day", str(DAY), env=site.environment, cwd=tmp_path)
    assert (refused.status, "is not an empty folder" in refused.stderr) == (1, True)
    assert [one.name for one in (tmp_path / "set").iterdir()] == ["mine"]
    refused = run("export", "yolo", ".", env=site.environment, cwd=tmp_path)
    assert ". cannot be replaced by a new folder" in refused.stderr
    assert run("export", "yolo", "other", env=site.environment, cwd=tmp_path).status == 0
    assert len(list((tmp_path / "other" / "labels").iterdir())) == sum(one.day == NEXT_DAY for one in site.frames)


@pytest.mark.parametrize(
    "filters",
    [{}, {"label": "person"}, {"zone": "lower half"}, {"time_from": "12:01", "time_to": "12:02"}],
    ids=["all", "label", "zone", "time"],
)
def test_the_viewer_exports_exactly_the_frames_of_the_grid(filmed, filters):
    viewer = filmed.viewer
    grid = viewer.json("/api/v1/frames", day=DAY, limit=1000, **filters)
    document = viewer.json("/api/v1/export", day=DAY, **filters)
    assert [one["frame_id"] for one in document["images"]] == [one["frame_id"] for one in grid["frames"]]
    assert len(document["annotations"]) == sum(len(one["boxes"]) for one in grid["frames"])
    packed = viewer.get("/api/v1/export", day=DAY, format="yolo", **filters)
    assert packed.headers["content-type"] == "application/zip"
    names = zipfile.ZipFile(io.BytesIO(packed.content)).namelist()
    assert len(names) == len(grid["frames"]) + 1


def test_the_review_page_links_to_the_export_of_its_frames(filmed):
    page = filmed.viewer.get("/review", day=DAY, label="person").text
    address = f"/api/v1/export?day={DAY}&amp;label=person&amp;format=coco"
    assert f'href="{address}"' in page
    assert len(filmed.viewer.get(address.replace("&amp;", "&")).json()["images"]) == 12


def test_the_same_frames_give_the_same_bytes(filmed):
    for kind in ("coco", "yolo"):
        assert len({filmed.viewer.get("/api/v1/export", day=DAY, format=kind).content for _ in range(2)}) == 1


def test_a_day_without_frames_names_the_days_that_have_some(site, tmp_path):
    refused = run("export", "coco", "set", "--day", "2020-01-01", env=site.environment, cwd=tmp_path)
    assert refused.status == 1
    assert str(DAY) in refused.stderr
    assert not (tmp_path / "set").exists()


def test_only_selected_frames_count_for_the_limit(filmed, monkeypatch):
    monkeypatch.setattr(frame_pages, "MOST_EXPORTED", 1)
    refused = filmed.viewer.get("/api/v1/export", day=DAY)
    assert (refused.status_code, "imgpipeline export coco" in refused.json()["next"]) == (400, True)
    frame = filmed.of(DAY)[0]
    keep(filmed.store, said(frame, Mistake.MISSING, "cat", (5_000.0, 2.0, 3.0, 4.0)))
    marked = filmed.viewer.json("/api/v1/export", day=DAY, marked="true")
    assert [one["frame_id"] for one in marked["images"]] == [frame.frame_id]
    packed = filmed.viewer.get("/api/v1/export", day=DAY, marked="true", format="yolo").content
    [text] = [part for part in _texts(packed) if part.startswith("labels/")]
    assert len(_texts(packed)[text].splitlines()) == len(frame.detections), "a box beyond the image has no line"


def _texts(packed: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(packed)) as files:
        return {name: files.read(name).decode() for name in files.namelist()}
