"""Images reach a browser as images only; thumbnails are made once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from imgpipeline.errors import PermanentError
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline.web.viewer.pictures import THUMBNAIL_SIDE, Pictures
from imgpipeline_tests.lake.query.site import DAY
from imgpipeline_tests.ledger.samples import NOON


def row(path: str, number: int = 0) -> dict[str, object]:
    name = f"{number:032x}"
    return {"frame_id": name, "day": DAY, "source_image_path": path, "size_bytes": 1, "timestamp": NOON}


def encoded(kind: str, width: int = 800, height: int = 400) -> bytes:
    return bytes(cv2.imencode(kind, np.full((height, width, 3), 90, np.uint8))[1].tobytes())


@pytest.fixture
def pictures(folder: Settings, tmp_path: Path) -> Pictures:
    return Pictures(open_store(folder), folder, tmp_path / "thumbnails")


def test_an_image_is_sent_unchanged(viewed):
    one = viewed.site.frames[0]
    answer = viewed.viewer.get(f"/api/v1/frames/{DAY}/{one.frame_id}/image")
    assert answer.headers["content-type"] == "image/png"
    assert answer.content == open_store(viewed.settings).get(one.source_image_path)


def test_an_image_that_browsers_do_not_show_becomes_a_jpeg(pictures):
    pictures.store.put("a.tiff", encoded(".tiff"))
    shown = pictures.image(row("a.tiff"))
    assert (shown.media_type, shown.data[:3]) == ("image/jpeg", b"\xff\xd8\xff")


def test_a_document_that_could_run_in_a_browser_is_never_sent(pictures):
    pictures.store.put("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    with pytest.raises(PermanentError, match="cannot be shown"):
        pictures.image(row("a.svg"))


def test_no_path_leads_out_of_the_store(viewed):
    for form in ("image", "thumbnail"):
        answer = viewed.viewer.get(f"/api/v1/frames/{DAY}/{viewed.hostile.frame_id}/{form}")
        assert answer.status_code == 500
        assert "cannot be shown" in answer.json()["error"]
        assert "root:" not in answer.text


def test_a_thumbnail_is_made_once_for_concurrent_requests(pictures):
    pictures.store.put("a.png", encoded(".png"))
    with ThreadPoolExecutor(8) as pool:
        thumbnails = set(pool.map(lambda _: pictures.thumbnail(row("a.png")).data, range(24)))
    again = Pictures(pictures.store, pictures.settings, pictures.folder)
    assert {again.thumbnail(row("a.png")).data} == thumbnails
    assert (pictures.made, again.made) == (1, 0)
    small = cv2.imdecode(np.frombuffer(thumbnails.pop(), np.uint8), cv2.IMREAD_COLOR)
    assert small is not None
    assert small.shape == (THUMBNAIL_SIDE // 2, THUMBNAIL_SIDE, 3)


def test_an_image_that_was_replaced_in_the_store_never_has_its_old_thumbnail(pictures):
    pictures.store.put("a.png", encoded(".png", 400, 400))
    old = pictures.thumbnail(row("a.png")).data
    pictures.store.put("a.png", encoded(".png", 800, 400))
    new = cv2.imdecode(np.frombuffer(pictures.thumbnail(row("a.png")).data, np.uint8), cv2.IMREAD_COLOR)
    assert new is not None
    assert new.shape == (THUMBNAIL_SIDE // 2, THUMBNAIL_SIDE, 3)
    assert pictures.thumbnail(row("a.png")).data != old
    assert pictures.made == 2


def test_an_image_that_was_deleted_has_no_thumbnail_any_more(pictures):
    pictures.store.put("a.png", encoded(".png"))
    pictures.thumbnail(row("a.png"))
    pictures.store.delete("a.png")
    with pytest.raises(PermanentError, match="There is no image"):
        pictures.thumbnail(row("a.png"))


def test_a_cached_thumbnail_is_sent_without_searching_the_folder_for_old_ones(pictures):
    pictures.store.put("a.png", encoded(".png"))
    pictures.thumbnail(row("a.png"))
    restarted = Pictures(pictures.store, pictures.settings, pictures.folder, most_bytes=0)
    restarted.thumbnail(row("a.png"))
    assert list(pictures.folder.glob("*.jpg"))


@pytest.mark.medium
def test_the_folder_of_thumbnails_is_bounded(pictures):
    pictures.store.put("a.png", encoded(".png"))
    size_bytes = len(pictures.thumbnail(row("a.png")).data)
    pictures.most_bytes = 10 * size_bytes
    for number in range(1, 200):
        pictures.thumbnail(row("a.png", number))
    kept = sum(path.stat().st_size for path in pictures.folder.glob("*.jpg"))
    assert 0 < kept <= pictures.most_bytes
