"""A page escapes untrusted text, and describes any kind of day."""

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import cv2
import numpy as np
import pytest

from imgpipeline.contracts.keys import segment_key
from imgpipeline.contracts.outcomes import DeadLetter
from imgpipeline.errors import DeadLetterCode
from imgpipeline.objectstore.images import DeletedImages, write_deleted
from imgpipeline.reports.build import current_page
from imgpipeline_tests.ledger.samples import CHAIN, DAY, append, dead_letter, frame, write_chain
from imgpipeline_tests.objectstore.noting import NotingStore
from imgpipeline_tests.reports.conftest import AFTERWARDS, build_tables, key_of, picture
from imgpipeline_tests.reports.reading import ReadPage, assert_self_contained
from imgpipeline_tests.reports.samples import seen

DASH = "\N{EN DASH}"
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=https://example.com/x onerror=alert(1)>',
    "\u202egnp.exe\u2066",
    "مرحبا",
    "x" * 200,
    "{{ 7*7 }}{% include 'report.css' %}",
    "a'; rm -rf / #",
)
Read = Callable[[], ReadPage]


@pytest.mark.medium
def test_text_from_outside_stays_text(store, read):
    at = frame(0).timestamp
    frames = [
        seen(n, labels=(text, "car"), source=text, source_image_path=text, model_used=text)
        for n, text in enumerate(HOSTILE)
    ]
    letters = [
        DeadLetter(len(frames) + n, code, text, at, DAY, text, text, 3, "AAEC")
        for n, (code, text) in enumerate(zip(DeadLetterCode, HOSTILE, strict=False))
    ]
    write_chain(store, [*frames, *letters])
    page = read()
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "49" not in page.text.split()
    assert_self_contained(page)
    for text in HOSTILE:
        shown = " ".join("".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text).split())
        assert page.text.count(shown) >= 4, "label, source, path and message can be read"
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", page.text)


@pytest.mark.medium
def test_a_page_of_many_labels_sources_and_dead_letters_stays_small(store, report):
    frames = [
        seen(n, hour=n % 24, labels=tuple(f"label-{(n * 5 + k) % 400}" for k in range(5)), source=f"cam-{n}")
        for n in range(300)
    ]
    store.put("images/0.jpg", picture())
    write_chain(store, frames, [dead_letter(n) for n in range(300, 900)])
    built = report()
    assert built.manifest.labels == 400
    assert built.size_bytes < 400_000
    page = ReadPage(store.get(key_of(built)))
    assert len(page.section("sources")) == 61
    assert "of 400 labels" in page.text
    assert page.text.count("cut short") == 3


@pytest.mark.medium
def test_a_day_without_frames_has_a_page(store, settings, read):
    write_chain(store, [replace(frame(0), timestamp=frame(0).timestamp + timedelta(days=1))])
    build_tables(store, settings)
    page = read()
    assert page.numbers["frames"] == "0"
    assert page.numbers["busiest hour"] == DASH
    assert "Nothing was detected on this day." in page.text
    assert "No frames on this day." in page.text
    assert_self_contained(page)


def test_a_day_of_dead_letters_only_has_a_page(store, read):
    unnamed = replace(dead_letter(2), code=DeadLetterCode.INVALID_MESSAGE, message="Not JSON.", source=None)
    write_chain(store, [dead_letter(0), dead_letter(1), unnamed])
    page = read()
    assert page.numbers["dead letters"] == "3"
    assert page.numbers["frames"] == "0"
    assert "DECODE_FAILED 2" in page.text
    assert "imgpipeline dead-letters list --day 2026-01-09 --code INVALID_MESSAGE" in page.text
    assert "not named" in page.text


def test_dead_letters_of_another_time_are_counted_under_their_day_and_in_no_hour(store, read):
    later = replace(dead_letter(0), timestamp=frame(0).timestamp + timedelta(days=40))
    write_chain(store, [later, replace(dead_letter(1), timestamp=None), seen(2)])
    page = read()
    assert page.numbers["dead letters"] == "2"
    assert "DECODE_FAILED 2" in page.text
    assert [row[1:] for row in page.section("Frames by hour")] == [["processed", "all"], ["1", "1"]]
    assert {row[0]: row[4] for row in page.section("sources")[1:]} == {"cam-1": "2", "gate": "0"}


@pytest.mark.medium
def test_a_dead_letter_is_open_until_a_replay_of_the_day_became_a_frame(store, read):
    records = [dead_letter(0), dead_letter(1), replace(dead_letter(2), replay_of="frames/0/0")]
    chain = write_chain(store, records, [replace(seen(3), replay_of="frames/0/0")])
    text = read().text
    assert "DECODE_FAILED 3, 1 still open" in text
    assert [text.count(f", {state}") for state in ("open", "resolved")] == [1, 2]
    append(chain, [replace(seen(4), replay_of="frames/0/1")])
    assert "DECODE_FAILED 3, 0 still open" in read().text


@pytest.mark.medium
def test_the_live_report_reads_only_newer_segments(store, settings, read, tmp_path):
    chain = write_chain(store, [seen(0)], [dead_letter(1)])
    read()
    append(chain, [seen(2), dead_letter(3)])
    counting = NotingStore(store)
    page = ReadPage(current_page(counting, settings, DAY, now=AFTERWARDS, cache_dir=tmp_path / "cache"))
    assert "DECODE_FAILED 2" in page.text
    assert not {segment_key(CHAIN, 0), segment_key(CHAIN, 1)} & set(counting.segments)


def test_a_change_of_the_threshold_within_the_day_is_shown(store, read):
    write_chain(store, [seen(0, hour=1), seen(1, hour=13, confidence_threshold=0.4)])
    page = read()
    assert "A threshold changed within this day." in page.text
    rows = page.section("models")[1:]
    assert [(row[0], row[2], row[4], row[5]) for row in rows] == [
        *(("demo", "0.5", "1", "01:00:00"), ("demo", "0.4", "1", "13:01:00")),
    ]


def test_a_change_of_the_model_within_the_day_is_shown(store, read):
    chain = write_chain(store, [seen(0, hour=1), seen(1, hour=13)])
    assert "changed within this day" not in read().text
    append(chain, [seen(2, hour=14, model_used="yolox", model_sha256="cd" * 32)])
    assert "The model changed within this day." in read().text


@pytest.mark.medium
def test_pictures_are_of_different_sources_and_have_their_boxes_drawn(store, read):
    plain = picture()
    frames = [seen(n, labels=("car", "dog")[: 1 + n % 2], source=f"cam-{n % 6}") for n in range(12)]
    for n in range(12):
        store.put(f"images/{n}.jpg", plain)
    write_chain(store, frames)
    page = read()
    shown = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    assert len(shown) == 5
    alts = [attributes["alt"] or "" for tag, attributes in page.tags if tag == "img"]
    assert len({alt.split(" at ")[0] for alt in alts}) == 5
    assert sum("1 dog" in alt for alt in alts) == 3, "those with more labels come first"
    assert all(differs(base64.b64decode(src.partition(",")[2]), plain) for src in shown)


def differs(jpeg: bytes, plain: bytes) -> bool:
    drawn, original = (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in (jpeg, plain))
    return drawn.shape == original.shape and np.abs(drawn.astype(int) - original).max() > 60


@pytest.mark.medium
def test_a_picture_that_is_gone_is_said(store, read):
    write_chain(
        store, [seen(0), seen(1, source="yard"), seen(2, source="out", source_image_path="s3://elsewhere/a.jpg")]
    )
    store.put("images/1.jpg", b"no picture")
    page = read()
    assert "The image is no longer in the store." in page.text
    assert "The image can no longer be shown (DECODE_FAILED)." in page.text
    assert "The pipeline may not read the location of the image." in page.text
    assert page.numbers["frames"] == "3"


def test_a_number_can_be_followed_back_by_the_command_that_is_shown(store, read):
    write_chain(store, [seen(0, hour=7, labels=("traffic light",) * 3), seen(1, hour=8)])
    assert "imgpipeline explain --day 2026-01-09 --hour 7 --label 'traffic light'" in read().text


def test_the_threshold_of_summaries_is_kept_and_said(store, settings, report):
    write_chain(store, [seen(0, labels=("car", "dog", "person"))])
    built = report(changed=settings.model_copy(update={"summary_threshold": 0.6}))
    assert built.manifest.detections == 1
    assert "a confidence of at least 0.6" in ReadPage(store.get(key_of(built))).text


def test_a_picture_that_image_retention_has_deleted_says_so(store, read):
    key = f"images/gate/{DAY}/a.jpg"
    write_chain(store, [seen(0, source_image_path=key)])
    at = frame(0).timestamp + timedelta(days=30)
    write_deleted(store, DeletedImages("gate", DAY, at, 1, 10, 0, at))
    assert f"Image deleted on {at.date()} by image retention: {key}." in read().text
