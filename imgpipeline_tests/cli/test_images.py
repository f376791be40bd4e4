"""`imgpipeline images retain` deletes what is due, survives being killed, and other commands say what was deleted."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imgpipeline.errors import PermanentError
from imgpipeline.lake.query.lake import Lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.cli.samples import CAR, seen
from imgpipeline_tests.ledger.samples import DAY, write_chain

pytestmark = pytest.mark.medium

OpenStore = Callable[[dict[str, str]], ObjectStore]
AT_ONCE = {"IMGPIPELINE_KEEP_IMAGES_DAYS": "0.000001"}
EXPLAIN = ("explain", "label-totals", "--day", str(DAY), "--label", "car")


def store_images(store: ObjectStore, sources: int = 1) -> list[str]:
    keys = [f"images/cam-{n}/{DAY}/a.jpg" for n in range(sources)]
    for key in keys:
        store.put(key, b"0123456789")
    write_chain(store, [seen(n, CAR, source_image_path=key, source=f"cam-{n}") for n, key in enumerate(keys)])
    return keys


def kept(store: ObjectStore) -> list[str]:
    return [info.key for info in store.list_objects("images")]


def test_old_images_are_deleted_after_a_dry_run_and_frames_say_so(
    folder_site: dict[str, str], store_of: OpenStore, tmp_path: Path
):
    store = store_of(folder_site)
    keys = store_images(store)
    env = folder_site | AT_ONCE
    assert run("images", "retain", env=folder_site, cwd=tmp_path).status == 2
    planned = run("images", "retain", "--dry-run", env=env, cwd=tmp_path)
    assert "Would delete 1 image" in planned.stderr
    assert kept(store) == keys
    ended = run("images", "retain", "--json", env=env, cwd=tmp_path)
    deleted = [{"source": "cam-0", "day": str(DAY), "images": 1, "size_bytes": 10}]
    assert ended.json() == {
        "dry_run": False, "images": 1, "size_bytes": 10, "left": 0, "complete": True, "deleted": deleted,
    }  # fmt: skip
    assert kept(store) == []
    explained = run(*EXPLAIN, env=folder_site, cwd=tmp_path)
    assert explained.status == 0
    assert f"Image retention deleted 1 image of cam-0 of {DAY}" in explained.stderr
    (record,) = run(*EXPLAIN, "--json", env=folder_site, cwd=tmp_path).json()["deleted_images"]
    assert (record["source"], record["images"]) == ("cam-0", 1)
    lake = Lake.open(folder_site["IMGPIPELINE_STORE_URL"])
    with pytest.raises(PermanentError, match="Image deleted on"):
        lake.image(DAY, replace(seen(0, CAR, source="cam-0")).frame_id)


@pytest.mark.parametrize("step", ["delete images", "delete images done"], ids=["before", "after"])
def test_a_run_that_was_killed_is_continued_by_the_next(
    folder_site: dict[str, str], store_of: OpenStore, tmp_path: Path, step: str
):
    store = store_of(folder_site)
    store_images(store, sources=3)
    killed = run(
        "images", "retain", env=folder_site | AT_ONCE | {"IMGPIPELINE_FAULT_AT": f"{step}:2=kill"}, cwd=tmp_path
    )
    assert killed.status == -signal.SIGKILL
    assert len(kept(store)) in (1, 2)
    assert run("images", "retain", env=folder_site | AT_ONCE, cwd=tmp_path).status == 0
    assert kept(store) == []
