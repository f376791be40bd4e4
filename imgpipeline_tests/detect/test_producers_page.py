"""docs/producers.md: each example is sent by a plain kafka-python producer, and becomes what the page says."""

import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from kafka import KafkaProducer

from imgpipeline import Lake
from imgpipeline.contracts.outcomes import DeadLetter, Frame
from imgpipeline.contracts.times import format_time
from imgpipeline.errors import DeadLetterCode
from imgpipeline.objectstore.client import open_bucket
from imgpipeline.settings import load_settings
from imgpipeline_tests.detect.conftest import LaneUnderTest, jpeg
from imgpipeline_tests.servers.s3_server import S3Server

PAGE = Path(__file__).resolve().parents[2] / "docs" / "producers.md"
ARCHIVE = "camera-archive"
RECORD_MS = int(datetime(2026, 1, 9, 12, tzinfo=UTC).timestamp() * 1000)
OF_IMPORTS = {DeadLetterCode.BAD_ROW}
_EXAMPLE = re.compile(
    r"(?P<lead>(?:[^\n]+\n)+)\n?```(?P<language>json|python)\n(?P<code>(?:(?!```).)*)```\n\n"
    r"(?P<becomes>(?:Frame|Dead letter).*?)\n\n",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Example:
    """One example of the page."""

    name: str
    """The paragraph above it, with its heading."""
    language: str
    """`json`: the record's value; `python`: code that sends the record."""
    code: str
    """The fenced block."""
    becomes: str
    """What the page says of its outcome."""

    @property
    def settings(self) -> dict[str, str]:
        """The settings that the paragraph above it names, by field."""
        return {name.lower(): value for name, value in re.findall(r"`IMGPIPELINE_(\w+)=([^`]+)`", self.name)}


def examples() -> list[Example]:
    found = [
        Example(unwrapped(m["lead"]).strip("# :"), m["language"], m["code"], unwrapped(m["becomes"]))
        for m in _EXAMPLE.finditer(page())
    ]
    assert len(found) == 15
    return found


def unwrapped(paragraph: str) -> str:
    return " ".join(paragraph.split())


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def bitmap() -> bytes:
    """Return a picture whose bytes, hence its SHA-256, do not depend on an encoder."""
    width, height = 64, 48
    pixels = bytes((40, 80, 120)) * width * height
    sizes = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, len(pixels), 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + sizes + pixels


@pytest.fixture
def site(lane: LaneUnderTest, make_topic: Callable[..., str], s3: S3Server) -> LaneUnderTest:
    """A lane with the images of the page, and a topic that keeps records of any time."""
    if not (s3.data_dir / ARCHIVE).exists():
        s3.create_bucket(ARCHIVE)
    made = lane.with_settings(
        kafka_topics=(make_topic(config={"retention.ms": "-1"}),), allowed_image_locations=(f"s3://{ARCHIVE}/2026",)
    )
    for key in ("images/gate/0007.jpg", "clip-17/42.jpg", "image_database/00007.jpg"):
        made.put_image(key, bitmap())
    open_bucket(made.settings, ARCHIVE).put("2026/gate/0007.jpg", bitmap())
    return made


def send(example: Example, site: LaneUnderTest, producer: KafkaProducer, folder: Path) -> None:
    topic = site.settings.kafka_topic
    if example.language == "json":
        key = re.search(r"record key `(\w+)`", example.name)
        value = example.code.encode()
        producer.send(topic, value, key=key and key[1].encode(), timestamp_ms=RECORD_MS).get(timeout=30)
        return
    (folder / "0007.jpg").write_bytes(bitmap())
    code = example.code.replace('Path("', f'Path("{folder}/').replace(
        'os.environ["IMGPIPELINE_KAFKA_TOPIC"]', repr(topic)
    )
    exec(code, {"producer": producer, "Path": Path})  # noqa: S102 - the page's own code


def test_every_example_becomes_what_the_page_says(site, producer, tmp_path):
    shown = [example for example in examples() if not example.settings]
    for example in shown:
        send(example, site, producer, tmp_path)
    site.follow()
    outcomes = site.outcomes()
    assert len(outcomes) == len(shown)
    for example, outcome in zip(shown, outcomes, strict=True):
        if isinstance(outcome, Frame):
            assert example.becomes.startswith("Frame: "), (example.name, outcome)
            check_frame(example, outcome)
        else:
            assert isinstance(outcome, DeadLetter)
            check_dead_letter(example, outcome)


@pytest.mark.parametrize(
    "example", [e for e in examples() if e.settings], ids=lambda example: next(iter(example.settings))
)
def test_messages_of_other_programs_become_what_the_page_says(example, site, producer, tmp_path):
    own = LaneUnderTest(load_settings(**{**site.settings.model_dump(exclude_unset=True), **example.settings}))
    send(example, own, producer, tmp_path)
    own.follow()
    [frame] = own.frames()
    check_frame(example, frame)


def check_frame(example: Example, frame: Frame) -> None:
    said = dict(re.findall(r"`(\w+)` `([^`]+)`", example.becomes))
    assert {"source", "source_image_path", "timestamp"} <= said.keys()
    actual = {
        "source": frame.source,
        "source_image_path": frame.source_image_path,
        "timestamp": format_time(frame.timestamp),
    }
    if frame.frame_number is not None:
        actual["frame_number"] = str(frame.frame_number)
    if frame.attributes:
        actual["attributes"] = json.dumps(frame.attributes)
    assert actual == said, example.name


def check_dead_letter(example: Example, letter: DeadLetter) -> None:
    said = re.fullmatch(r"Dead letter `(\w+)`: `([^`]+)`", example.becomes)
    assert said is not None, (example.name, letter)
    assert said[1] == letter.code.value, example.name
    assert said[2] in letter.message, example.name


def test_the_complete_producer_announces_a_frame(site, bucket, tmp_path):
    (tmp_path / "0007.jpg").write_bytes(bitmap())
    program = page().partition("## A complete producer\n```python\n")[2].partition("```")[0]
    settings = site.settings
    variables = {
        **bucket.environment(),
        "IMGPIPELINE_STORE_URL": settings.store_url,
        "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "IMGPIPELINE_KAFKA_TOPIC": settings.kafka_topic,
    }
    subprocess.run([sys.executable, "-c", program], env=os.environ | variables, cwd=tmp_path, check=True, timeout=60)
    site.follow()
    [frame] = site.frames()
    assert (frame.source, frame.source_image_path, frame.frame_number) == ("gate", "images/gate/0007.jpg", 7)


def test_every_code_of_a_record_is_explained():
    explained = set(re.findall(r"^\| `(?!IMGPIPELINE_)([A-Z_]+)` \|", page(), re.MULTILINE))
    assert explained == {code.value for code in DeadLetterCode if code not in OF_IMPORTS}


def test_a_frame_store_beside_the_store_is_read_by_video_and_frame(lane, tmp_path, monkeypatch):
    shared = tmp_path / "frame_store"
    shared.mkdir()
    (shared / "uav0000086_frame_00001.jpg").write_bytes(jpeg())
    monkeypatch.setenv("IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS", shared.as_uri())
    monkeypatch.setenv("IMGPIPELINE_IMAGE_PATH_TEMPLATE", f"{shared}/{{video_id}}_{{frame_id}}.jpg")
    site = LaneUnderTest(load_settings(**lane.settings.model_dump(exclude_unset=True)))
    by_number = {"frame_id": "frame_00001", "timestamp": "2026-03-01T12:00:00+00:00", "video_id": "uav0000086"}
    by_path = {"image_path": f"{shared}/uav0000086_frame_00001.jpg", "video_id": "uav0000086"}
    elsewhere = {"image_path": str(tmp_path / "elsewhere.jpg")}
    site.send(*(json.dumps(value).encode() for value in (by_number, by_path, elsewhere)))
    site.follow()
    path = f"{shared}/uav0000086_frame_00001.jpg"
    assert [(frame.source, frame.source_image_path) for frame in site.frames()] == [("uav0000086", path)] * 2
    assert [letter.code for letter in site.dead_letters()] == [DeadLetterCode.PATH_NOT_ALLOWED]
    lake = Lake.open(site.settings)
    assert lake.image(site.frames()[0].day, site.frames()[0].frame_id).shape == (360, 640, 3)
