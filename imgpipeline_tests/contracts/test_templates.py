"""Key templates: the default, those of other systems, and unsafe ones, which are rejected."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts.templates import ImageKeyTemplate, key_beside
from imgpipeline.errors import UsageError

NOON = datetime(2026, 1, 9, 12, 0, 0, 250_000, tzinfo=UTC)
DIGEST = "0123456789abcdef" * 4


def test_the_default_is_source_day_and_name():
    assert ImageKeyTemplate().key("gate", NOON, DIGEST, name="0007.jpg") == "images/gate/2026-01-09/0007.jpg"


def test_a_frame_without_a_name_is_named_by_its_time_and_content():
    key = ImageKeyTemplate().key("gate", NOON, DIGEST, suffix=".png")
    assert key == "images/gate/2026-01-09/120000250000-0123456789abcdef.png"


def test_the_day_and_time_are_utc():
    local = NOON.astimezone(timezone(timedelta(hours=14)))
    assert ImageKeyTemplate("images/{day}/{time}").key("gate", local, DIGEST) == "images/2026-01-09/120000250000"


@pytest.mark.parametrize(
    ("key", "beside"),
    [
        ("images/gate/2026-01-09/0007.jpg", "images/gate/2026-01-09/0007~0123456789abcdef.jpg"),
        ("image_database/00007", "image_database/00007~0123456789abcdef"),
    ],
)
def test_other_content_with_the_same_key_gets_its_digest_before_the_suffix(key, beside):
    assert key_beside(key, DIGEST) == beside


def test_a_flat_folder_keeps_the_names_of_the_files():
    flat = ImageKeyTemplate("images/{name}")
    assert flat.key("gate", NOON, DIGEST, name="frame_000001.jpg") == "images/frame_000001.jpg"


def test_a_number_has_its_minimum_digits():
    numbered = ImageKeyTemplate("image_database/{number:05d}.jpg")
    assert numbered.key("gate", NOON, DIGEST, number=7) == "image_database/00007.jpg"
    with pytest.raises(UsageError, match="have no number"):
        numbered.key("gate", NOON, DIGEST)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{name}", "a separate folder"),
        ("{source}/{name}", "a separate folder"),
        ("metadata/{name}", "a separate folder"),
        ("summaries/{name}", "a separate folder"),
        ("images/../metadata/{name}", "no empty part"),
        ("/images/{name}", "no empty part"),
        ("images//{name}", "no empty part"),
        ("images/{name}?x", "letters, digits"),
        ("images/{source}/{day}", "the same key"),
        ("images/{camera}/{name}", "no field {camera}"),
        ("images/{name!r}", "cannot read"),
        ("images/{name.__class__}", "cannot read"),
        ("images/{name:>99999999}", "cannot read"),
        ("images/{name", "cannot read"),
    ],
    ids=str,
)
def test_an_unsafe_key_template_is_rejected(template, problem):
    with pytest.raises(ValueError, match=problem):
        ImageKeyTemplate(template)


@given(st.text(min_size=1), st.text(min_size=1), st.booleans())
def test_no_source_and_no_name_leaves_the_folder(source, name, is_beside_other):
    key = ImageKeyTemplate("images/{source}/{name}").key(source, NOON, DIGEST, name=name)
    key = key_beside(key, DIGEST) if is_beside_other else key
    first, *parts = key.split("/")
    assert first == "images"
    assert len(parts) == 2
    assert not {"", ".", ".."} & set(parts)


@pytest.mark.parametrize(
    "folder",
    [
        "metadata_bundles", "deleted_images", "frames", "detections", "weak_detections", "dead_letters", "notices",
        "table_pieces", "tracks", "track_points", "track_slices", "track_overlaps", "unique_objects", "unique_totals",
        "summaries", "frame_changes", "events", "zone_occupancy", "line_crossings", "event_images", "alerts",
        "alerts_attempts", "alerts_watched", "annotations", "reviewed", "reports", "redetections", "audit",
    ],
)  # fmt: skip
def test_images_cannot_be_stored_among_other_objects(folder):
    with pytest.raises(ValueError, match="a separate folder"):
        ImageKeyTemplate(f"{folder}/{{name}}")
