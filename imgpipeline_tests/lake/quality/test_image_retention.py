"""Image retention deletes the oldest images that have an outcome, nothing else, and leaves a record of it."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from imgpipeline.contracts.keys import deleted_images_key, safe_name
from imgpipeline.contracts.outcomes import Outcome
from imgpipeline.errors import ImageDeletedError, UsageError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.quality.image_retention import retain_images
from imgpipeline.objectstore import ImageReader, ObjectStore, open_store
from imgpipeline.objectstore.images import read_deleted
from imgpipeline.settings import Settings
from imgpipeline.settings.variables import SourceLimits
from imgpipeline_tests.ledger.samples import DAY, NOON, append, dead_letter, frame, write_chain
from imgpipeline_tests.objectstore.stores import SHARED_KINDS, store_settings

pytestmark = pytest.mark.medium

NEXT = DAY + timedelta(days=1)


def later(days: float) -> datetime:
    """Return a time so many days after the images were stored, which is now."""
    return datetime.now(UTC) + timedelta(days=days)


def put(store: ObjectStore, day: date, *names: str, source: str = "cam-1") -> list[str]:
    """Store images of ten bytes."""
    keys = [f"images/{source}/{day}/{name}" for name in names]
    for key in keys:
        store.put(key, b"0123456789")
    return keys


def seen(offset: int, key: str, day: date = DAY) -> Outcome:
    """Return the frame of a stored image."""
    return replace(frame(offset, day), source_image_path=key)


def images(store: ObjectStore) -> set[str]:
    return {info.key for info in store.list_objects("images")}


@pytest.fixture(params=SHARED_KINDS)
def settings(request: pytest.FixtureRequest) -> Settings:
    """The settings of a folder, and of a prefix of a real S3 bucket."""
    return store_settings(request.param, request)


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    """The fresh store."""
    return open_store(settings)


def limited(settings: Settings, **limits: object) -> Settings:
    return settings.model_copy(
        update={name: SourceLimits.parse(str(limit), most=1e18) for name, limit in limits.items()}
    )


def test_images_past_their_age_are_deleted_and_recorded(store, settings):
    young = later(3).date()
    old, new = put(store, DAY, "a.jpg", "b.jpg"), put(store, young, "c.jpg")
    write_chain(store, [seen(0, old[0]), seen(1, f"{settings.store_url}/{old[1]}"), seen(2, new[0], young)])
    rebuild_day(store, DAY, now=NOON)
    at = later(8)
    report = retain_images(store, limited(settings, keep_images_days=7), now=at)
    assert images(store) == {new[0]}
    deleted = read_deleted(store, "cam-1", DAY)
    assert deleted is not None
    assert (deleted.images, deleted.size_bytes, deleted.deleted_at) == (report.images, report.size_bytes, at)
    assert report.is_complete


def test_an_image_without_an_outcome_is_kept_until_it_has_one(store, settings):
    done, waiting = put(store, DAY, "done.jpg", "waiting.jpg")
    letter, foreign = put(store, DAY, "letter.jpg", source="cam-2")[0], put(store, DAY, "x.jpg", source="elsewhere")[0]
    store.put("other/cam-1/2026-01-09/mine.jpg", b"1")
    made = write_chain(store, [seen(0, done), replace(dead_letter(1), image_path=letter)])
    limits = limited(settings, keep_images_days=7)
    report = retain_images(store, limits, now=later(8))
    assert (images(store), report.images, report.left) == ({waiting, foreign}, 2, 2)
    assert store.get("other/cam-1/2026-01-09/mine.jpg") == b"1"
    assert append(made, [seen(2, waiting)])
    assert retain_images(store, limits, now=later(8)).images == 0, "a day is checked again one day later"
    assert retain_images(store, limits, now=later(9.1)).images == 1
    assert images(store) == {foreign}


def test_an_old_photo_that_was_stored_recently_is_kept(store, settings):
    (key,) = put(store, DAY, "a.jpg")
    write_chain(store, [seen(0, key)])
    assert retain_images(store, limited(settings, keep_images_days=7), now=later(6)).images == 0
    assert images(store) == {key}


def test_the_oldest_images_are_deleted_until_the_rest_fits(store, settings):
    first, second, third = *put(store, DAY, "a.jpg", "b.jpg"), *put(store, NEXT, "c.jpg")
    write_chain(store, [seen(0, first), seen(1, second), seen(2, third, NEXT)])
    limits = limited(settings, keep_images_bytes=20)
    planned = retain_images(store, limits, now=NOON, dry_run=True)
    assert (planned.images, planned.size_bytes, len(images(store))) == (1, 10, 3)
    assert read_deleted(store, "cam-1", DAY) is None
    assert retain_images(store, limits, now=NOON).deleted == planned.deleted
    assert third in images(store)
    assert len(images(store)) == 2
    assert retain_images(store, limits, now=NOON).images == 0


def test_both_limits_together_delete_each_image_once(store, settings):
    young = later(3).date()
    keys = [*put(store, DAY, "a.jpg"), *put(store, young, "b.jpg", "c.jpg")]
    write_chain(store, [seen(0, keys[0]), seen(1, keys[1], young), seen(2, keys[2], young)])
    limits, at = limited(settings, keep_images_days=7, keep_images_bytes=10), later(8)
    planned = retain_images(store, limits, now=at, dry_run=True)
    assert (planned.images, len(images(store))) == (2, 3)
    assert retain_images(store, limits, now=at).deleted == planned.deleted
    assert len(images(store)) == 1


def test_each_source_has_its_own_age_limit_and_one_without_keeps_everything(store, settings):
    names = ("cam-1", "Hof Süd", "archive")
    keys = [*(put(store, DAY, "a.jpg", source=safe_name(name))[0] for name in names)]
    write_chain(store, [seen(offset, key) for offset, key in enumerate(keys)])
    limits = limited(settings, keep_images_days="30,Hof Süd=7,archive=off")
    assert retain_images(store, limits, now=later(8)).images == 1
    assert images(store) == {keys[0], keys[2]}
    assert retain_images(store, limits, now=later(31)).images == 1
    assert images(store) == {keys[2]}
    assert retain_images(store, limited(settings, keep_images_days="archive=7"), now=later(32)).images == 1


def test_named_sources_have_their_own_size_limit_and_the_others_share_one(store, settings):
    kept = put(store, DAY, "a.jpg", "b.jpg", source="archive")
    gate = put(store, DAY, "a.jpg", "b.jpg", source="gate")
    others = [put(store, DAY, "a.jpg", source=name)[0] for name in ("cam-1", "cam-2", "cam-3")]
    write_chain(store, [seen(offset, key) for offset, key in enumerate([*kept, *gate, *others])])
    limits = limited(settings, keep_images_bytes="20,gate=10,archive=off")
    planned = retain_images(store, limits, now=NOON, dry_run=True)
    assert retain_images(store, limits, now=NOON).deleted == planned.deleted
    left = images(store)
    assert {*kept} <= left
    assert (len(left & {*gate}), len(left & {*others})) == (1, 2)


def test_a_run_is_limited_and_the_next_one_continues(store, settings):
    keys = put(store, DAY, *(f"{n}.jpg" for n in range(5)))
    write_chain(store, [seen(n, key) for n, key in enumerate(keys)])
    limits, at = limited(settings, keep_images_days=7), later(8)
    runs = [retain_images(store, limits, now=at, most_images=2) for _ in range(3)]
    assert [(run.images, run.is_complete) for run in runs] == [(2, False), (2, False), (1, True)]
    deleted = read_deleted(store, "cam-1", DAY)
    assert deleted is not None
    assert (deleted.images, images(store)) == (5, set())


def test_a_run_whose_time_is_over_stops_and_says_so(store, settings):
    (key,) = put(store, DAY, "a.jpg")
    write_chain(store, [seen(0, key)])
    report = retain_images(store, limited(settings, keep_images_days=7), now=later(8), is_over=lambda: True)
    assert (report.images, report.is_complete, images(store)) == (0, False, {key})


def test_without_a_limit_nothing_is_deleted(memory):
    with pytest.raises(UsageError, match="neither limit is set"):
        retain_images(memory, Settings(), now=NOON)


def test_a_reader_says_when_the_image_was_deleted(store, settings):
    (key,) = put(store, DAY, "a.jpg")
    write_chain(store, [seen(0, key)])
    at = later(8)
    retain_images(store, limited(settings, keep_images_days=7), now=at)
    with pytest.raises(ImageDeletedError, match=f"Image deleted on {at.date()} by image retention: {key}"):
        ImageReader(store, settings).read(key)
    store.delete(deleted_images_key("cam-1", DAY))
    with pytest.raises(Exception, match="There is no image at"):
        ImageReader(store, settings).read(key)
