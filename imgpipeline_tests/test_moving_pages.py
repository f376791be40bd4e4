"""The pages in docs/moving: their settings, files and commands work against real servers, next to the old programs.

The old programs of each page are played by a few lines here. Only Dagster is not started: where a page starts it, one
detection run follows the topics.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from kafka import KafkaProducer

from imgpipeline.settings import Settings, load_settings
from imgpipeline.settings.loading import unknown_settings
from imgpipeline_tests.cli.command import all_commands, environment
from imgpipeline_tests.detect.conftest import LaneUnderTest, jpeg
from imgpipeline_tests.publish.reading import documents_of
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.mosquitto import Mosquitto
from imgpipeline_tests.servers.ports import free_port
from imgpipeline_tests.servers.rtsp_server import RtspServer, make_camera
from imgpipeline_tests.servers.s3_server import S3Bucket
from imgpipeline_tests.servers.waiting import wait_until

PAGES = Path(__file__).resolve().parents[1] / "docs" / "moving"
NAMES = sorted(page.stem for page in PAGES.glob("*.md"))
TWO_SCREENS = 100
_DAGSTER = re.compile(r"^DAGSTER_HOME=.*\n", re.MULTILINE)
_FILE = re.compile(r"`(\w+\.toml)`(?:(?!```).)*?```toml\n(.*?)```", re.DOTALL)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def read(page: str) -> str:
    return (PAGES / f"{page}.md").read_text(encoding="utf-8")


@dataclass
class Reader:
    """Somebody who does what a page says, in a folder and with servers of their own."""

    folder: Path
    kafka: KafkaBroker
    page: str = ""
    words: dict[str, str] = field(default_factory=dict)
    """What the page says, and what it is here: names of servers, buckets and topics."""
    printed: str = ""
    """What the commands have printed."""
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def open(self, name: str, words: Mapping[str, str]) -> None:
        """Write the settings and files of a page."""
        self.page = read(name)
        found = re.findall(r"(?:_TOPIC=|--topic )(\S+)", self.page)
        names = sorted({topic.removesuffix("-notices") for each in found for topic in each.strip("`").split(",")})
        self.words = {rf"(TOPIC=|--topic |,){topic}\b": rf"\1{self.topic(topic)}" for topic in names} | dict(words)
        self.words["--retry 30"] = "--retry 120"  # a server starts slowly while other tests run
        (self.folder / ".env").write_text(self.translate("".join(blocks(self.page, "ini"))), encoding="utf-8")
        for file, text in _FILE.findall(self.page):
            (self.folder / file).write_text(text, encoding="utf-8")

    def translate(self, text: str) -> str:
        for said, here in self.words.items():
            text = re.sub(said, here, text)
        return text

    def topic(self, name: str) -> str:
        """Return the name here of a topic of the page: tests share one broker."""
        return f"{name}.{self.run_id}"

    @property
    def settings(self) -> Settings:
        return load_settings()

    def do_everything(self) -> None:
        """Run every command of the page."""
        for block in blocks(self.page, "sh"):
            first, *others = _DAGSTER.split(self.translate(block))
            self.run(first)
            for part in others:
                LaneUnderTest(self.settings).follow()
                self.run(part)

    def run(self, commands: str) -> None:
        """Run commands in one shell; the ones in the background end with it."""
        script = f"trap 'jobs -p | xargs -r kill || true; wait || true' EXIT\n{commands}"
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], env=environment({"PATH": path, **self.own_settings()}),
            cwd=self.folder, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, f"{commands}\n{ended.stdout}\n{ended.stderr}"
        self.printed += ended.stdout

    def own_settings(self) -> dict[str, str]:
        """Return what a test needs: a model that is here, short runs, and a session of its own at the MQTT broker."""
        return {
            "IMGPIPELINE_MQTT_CLIENT_ID": f"reader-{self.run_id}",
            "IMGPIPELINE_MODEL": "demo",
            "IMGPIPELINE_LINGER_S": "0.5",
            "IMGPIPELINE_MODEL_THREADS": "1",
            "XDG_STATE_HOME": str(self.folder / "state"),
        }

    def send(self, topic: str, *values: dict[str, Any] | bytes, key: bytes | None = None) -> None:
        """Send messages as an old producer does: without our code, all with about the same time."""
        now = int(datetime.now(UTC).timestamp() * 1000)
        self.kafka.create_topic(self.topic(topic))
        producer = KafkaProducer(bootstrap_servers=self.kafka.bootstrap_servers)
        for n, value in enumerate(values):
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            producer.send(self.topic(topic), data, key=key, timestamp_ms=now + n)
        producer.close()


@pytest.fixture
def reader(kafka: KafkaBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    folder = tmp_path / "work"
    folder.mkdir()
    made = Reader(folder, kafka)
    monkeypatch.chdir(folder)
    for name, value in made.own_settings().items():
        monkeypatch.setenv(name, value)
    return made


def words_of_bucket(bucket: S3Bucket, name: str) -> dict[str, str]:
    return {
        name: bucket.name,
        "https://s3.example.org": bucket.endpoint,
        "(AWS_ACCESS_KEY_ID)=…": rf"\1={bucket.access_key_id}",
        "(AWS_SECRET_ACCESS_KEY)=…": rf"\1={bucket.secret_access_key}",
    }


@pytest.mark.parametrize("page", NAMES)
def test_a_page_fits_on_two_screens(page):
    assert len(read(page).splitlines()) <= TWO_SCREENS


@pytest.mark.parametrize("page", NAMES)
def test_every_command_of_a_page_exists_with_its_options(page):
    known = {words: {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
             for words, command in all_commands()}  # fmt: skip
    text = re.sub(r"\s+#.*|[|] .*$", "", "\n".join(blocks(read(page), "sh")), flags=re.MULTILINE)
    said = [
        *re.findall(r"`(imgpipeline [^`]+)`", read(page)),
        *re.findall(r"^(?:\w+=\S+ )?(imgpipeline .*)", text, re.MULTILINE),
    ]
    for one in (re.sub(r"--health-port \d+ ", "", one).split() for one in said):
        words = next(tuple(one[1:n]) for n in range(len(one), 0, -1) if n == 1 or tuple(one[1:n]) in known)
        assert words, one
        assert {word for word in one if word.startswith("--")} <= known[words] | {"--help"}, one


@pytest.mark.parametrize("page", [name for name in NAMES if "# old" in read(name)])
def test_a_page_explains_every_old_name_that_stays_without_effect(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("".join(blocks(read(page), "ini")))
    prose = re.sub(r"```.*?```", "", read(page), flags=re.DOTALL)
    for one in unknown_settings():
        assert one.place == ".env"
        assert f"`{one.name}`" in prose or f"`{one.name.partition('_')[0]}_…`" in prose


@pytest.mark.slow
def test_dagster_starts_in_a_folder_with_the_files_that_the_first_page_names(tmp_path):
    for name in re.findall(r"`(\w+\.yaml)`", read("README")):
        shutil.copy(PAGES.parents[1] / name, tmp_path)
    command = [Path(sys.executable).parent / "dagster", "definitions", "validate"]
    env = environment({"DAGSTER_HOME": str(tmp_path)})
    ended = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Validation successful for code location imgpipeline" in ended.stderr + ended.stdout


def document(name: str, label: str, hour: int) -> dict[str, Any]:
    """Return a document as the classic consumer writes it."""
    return {
        "source_image_path": f"s3://bucket/images/{name}.jpg", "source_kafka_offset": 0, "source_kafka_partition": 0,
        "processing_timestamp": f"2025-04-10T{hour}:30:00.123456", "image_width": 1280, "image_height": 720,
        "model_used": "yolov4-tiny", "confidence_threshold": 0.5, "nms_threshold": 0.4,
        "detections": [{"label": label, "class_id": 2, "confidence": 0.9, "box": [10, 20, 30, 40]}] * 2,
    }  # fmt: skip


@pytest.mark.slow
def test_image_analytics(reader, bucket):
    reader.open(
        "image-analytics",
        words_of_bucket(bucket, "2025-group19")
        | {
            "SASL_PLAINTEXT": "PLAINTEXT",
            "kafka.example.org:9094": reader.kafka.bootstrap_servers,
            r"(--port |:)5001\b": rf"\g<1>{free_port()}",
        },
    )
    store = bucket.store()
    documents = [document("frame_000000", "car", 18), document("frame_000001", "car", 18), document("f2", "dog", 19)]
    for n, one in enumerate(documents):
        store.put(f"metadata/frame_{n:06d}.json", json.dumps(one, indent=2).encode())
    store.put("images/frame_000003.jpg", jpeg(3))
    (reader.folder / "extracted_frames").mkdir()
    for n in (4, 5):
        (reader.folder / "extracted_frames" / f"frame_{n:06d}.jpg").write_bytes(jpeg(n))
    announced = f"s3://{bucket.name}/images/frame_000003.jpg"
    reader.send("image_metadata_topic", {"image_path": announced, "upload_timestamp": datetime.now(UTC).isoformat()})

    reader.do_everything()

    lines = (reader.folder / "label-hour.tsv").read_text().splitlines()
    assert [line.split("\t")[:2] for line in lines] == [["car@2025-04-10 18:00", "4"], ["dog@2025-04-10 19:00", "2"]]
    answer = json.loads(reader.printed.rstrip().splitlines()[-1])
    assert set(answer) == {"labels", "counts"}
    # What the old consumer sees on its topic: messages of one form, whose images exist under their own names.
    messages = documents_of(reader.settings, reader.topic("image_metadata_topic"))
    assert [set(message) for message in messages] == [{"image_path", "upload_timestamp"}] * 3
    assert {message["image_path"] for message in messages} == {
        f"s3://{bucket.name}/images/frame_{n:06d}.jpg" for n in (3, 4, 5)
    }
    assert all(bytes(store.get(f"images/frame_{n:06d}.jpg").bytes()) == jpeg(n) for n in (3, 4, 5))
    assert len(LaneUnderTest(reader.settings).frames()) == 3 + len(documents)


@pytest.mark.slow
def test_bucket(reader, bucket):
    reader.open("bucket", words_of_bucket(bucket, "captcha-mapreduce-data"))
    add_settings(reader, IMGPIPELINE_S3_ENDPOINT=bucket.endpoint, KAFKA_BROKER=reader.kafka.bootstrap_servers)
    store = bucket.store()
    for n in range(3):
        store.put(f"captchas/{n}.png", png(n))
    rows = ["2025-05-01 10:00:00,cat,0.9", "2025-05-01 10:00:01,Cat,0.8", "2025-05-01 11:00:00,dog,0.7"]
    (reader.folder / "captcha_metadata.csv").write_text("\n".join(["timestamp,detected_label,confidence", *rows, ""]))
    old = {"image_key": "captchas/0.png", "bucket_name": bucket.name, "uuid": "u-1"}
    reader.send("image_topic", old | {"timestamp": "2026-01-09 12:00:00.250000"}, key=b"captchas/0.png")

    reader.do_everything()

    frames = [frame for frame in LaneUnderTest(reader.settings).frames() if frame.source_image_path]
    assert Counter(frame.source for frame in frames) == {bucket.name: 1, "captchas": 3}
    assert {"uuid": "u-1"} in [frame.attributes for frame in frames]
    totals = dict(line.split("\t") for line in (reader.folder / "totals.tsv").read_text().splitlines())
    assert totals == {"CAT": "2", "DOG": "1"}
    assert len((reader.folder / "copy").read_text().splitlines()) == 4


def add_settings(reader: Reader, **added: str) -> None:
    """Add what the page leaves to the reader, such as the address of a server that is not AWS."""
    with (reader.folder / ".env").open("a") as file:
        file.writelines(f"{name}={value}\n" for name, value in added.items())


def png(seed: int) -> bytes:
    image = cv2.imdecode(np.frombuffer(jpeg(seed), np.uint8), cv2.IMREAD_COLOR)
    return cv2.imencode(".png", image)[1].tobytes()


def old_frame(frame_store: Path, n: int) -> dict[str, Any]:
    """Write a frame as the old generator does, and return its message."""
    (frame_store / f"uav0000086_frame_{n:05d}.jpg").write_bytes(jpeg(number=n))
    time = f"2026-01-09T12:00:00.{n}00000+00:00"
    return {"frame_id": f"frame_{n:05d}", "timestamp": time, "video_id": "uav0000086"}


@pytest.mark.slow
def test_video(reader):
    frame_store = reader.folder / "app" / "frame_store"
    reader.open(
        "video",
        {"file:///app": frame_store.parent.as_uri(), r"(--port |:)5001\b": rf"\g<1>{free_port()}",
         "redpanda:29092": reader.kafka.bootstrap_servers},
    )  # fmt: skip
    frame_store.mkdir(parents=True)
    sequence = reader.folder / "data" / "sequences" / "uav0000137"
    sequence.mkdir(parents=True)
    for n in range(10):
        (sequence / f"{n + 1:07d}.jpg").write_bytes(jpeg(4, n))
    messages = [old_frame(frame_store, n) for n in range(10)]
    (reader.folder / "old_detections.csv").write_text(
        "frame_id,video_id,timestamp,label,confidence,x1,y1,x2,y2\nframe_00001,old,2025-01-09T12:00:00,car,0.9,1,2,3,4\n"
    )
    reader.send("car-frames", *messages)
    reader.send("person-frames", *messages)

    reader.do_everything()

    site_frames = [frame for frame in LaneUnderTest(reader.settings).frames() if frame.source == "uav0000086"]
    assert len({frame.frame_id for frame in site_frames}) == 10
    found = documents_of(reader.settings, reader.topic("detections-cars"))
    assert [(one["video_id"], one["frame_id"]) for one in found] == [
        (message["video_id"], message["frame_id"]) for message in messages
    ]
    boxes = [box for one in found for each in one["detections"] for box in each["bbox"]]
    assert boxes
    assert all(isinstance(edge, int) for edge in boxes)
    assert len(documents_of(reader.settings, reader.topic("tracks-cars"))) == 10
    stats = (reader.folder / "stats.csv").read_text().splitlines()
    assert (stats[0], len(stats)) == ("timestamp,num_cars,num_people", 11)
    assert (reader.folder / "car_detections.csv").read_text().startswith("frame_id,video_id,timestamp,label,")
    assert "Sent 10 frames from uav0000137." in reader.printed
    check_what_old_detectors_see(reader, frame_store)


def check_what_old_detectors_see(reader: Reader, frame_store: Path) -> None:
    """The new generator sends the old messages on both topics, and writes the files that they mean."""
    for topic in ("car-frames", "person-frames"):
        new = documents_of(reader.settings, reader.topic(topic))[10:]
        assert [(one["video_id"], one["frame_id"]) for one in new] == [
            ("uav0000137", f"frame_{n:05d}") for n in range(10)
        ]
    files = [frame_store / f"uav0000137_frame_{n:05d}.jpg" for n in range(10)]
    assert [file.read_bytes() for file in files] == [jpeg(4, n) for n in range(10)]


@pytest.mark.slow
def test_change_alerts(reader):
    site = reader.folder / "pipeline"
    reader.open("change-alerts", {"/srv/pipeline": str(site), r"(--port |:)8000\b": rf"\g<1>{free_port()}"})
    add_settings(reader, KAFKA_BROKER=reader.kafka.bootstrap_servers)
    database = site / "image_database"
    database.mkdir(parents=True)
    upright = cv2.imdecode(np.frombuffer(jpeg(), np.uint8), cv2.IMREAD_COLOR)
    for n in range(1, 11):
        turned = cv2.rotate(upright, cv2.ROTATE_90_CLOCKWISE) if n >= 3 else upright
        turned = cv2.rotate(turned, cv2.ROTATE_90_CLOCKWISE) if n >= 7 else turned
        cv2.imwrite(str(database / f"{n:05d}.jpg"), turned)
    pictures = sorted(file.read_bytes() for file in database.iterdir())
    reader.send("image_analysis", *({"image_num": n} for n in range(1, 11)))

    reader.do_everything()

    alerts = documents_of(reader.settings, reader.topic("image_event_alert"))
    assert [alert["image_event_num"] for alert in alerts] == [1, 2]
    assert len(list((reader.folder / "alert-1").iterdir())) >= 2
    assert "picture has changed" in (reader.folder / "alert-1.html").read_text()
    assert sorted(file.read_bytes() for file in database.iterdir()) == pictures
    assert {entry.name for entry in site.iterdir() if not entry.name.startswith(".")} == {"image_database"}


@pytest.mark.slow
def test_multi_source(reader, mosquitto: Mosquitto, tmp_path):
    incoming = reader.folder / "incoming"
    incoming.mkdir()
    (incoming / "day.jpg").write_bytes(jpeg(5))
    cv2.imwrite(str(incoming / "night.jpg"), np.full((360, 640, 3), 3, np.uint8))
    (reader.folder / "x.jpg").write_bytes(jpeg(6))
    with RtspServer([make_camera(tmp_path, "test")]) as server:
        reader.open(
            "multi-source",
            {"rtsp://rtsp-simulator:8554/test": server.url("test"), "/srv/site": str(reader.folder / "site"),
             "-h mqtt-broker": f"-h {mosquitto.host} -p {mosquitto.port}", "kafka:9092": reader.kafka.bootstrap_servers,
             "mqtt-broker": mosquitto.host, "MQTT_PORT=1883": f"MQTT_PORT={mosquitto.port}"},
        )  # fmt: skip
        reader.do_everything()
        wait_until(lambda: shows_camera(reader), limit_s=120, what="a frame of the camera")
    frames = LaneUnderTest(reader.settings).frames()
    by_source = Counter(frame.source for frame in frames)
    assert set(by_source) == {"incoming", "camera", "images/raw"}
    # The device sends each second, so a second message may arrive while the first one is announced.
    assert (by_source["incoming"], by_source["images/raw"] >= 1) == (2, True)
    assert {(frame.image_width, frame.image_height) for frame in frames if frame.status == "processed"} == {(640, 360)}
    assert [frame.source for frame in frames if frame.status == "gated" and frame.source != "camera"] == ["incoming"]


def shows_camera(reader: Reader) -> bool:
    """Read the camera again if its process, on a busy machine, started only when its time was over."""
    site = LaneUnderTest(reader.settings)
    if not any(frame.source == "camera" for frame in site.frames()):
        reader.run("imgpipeline ingest rtsp --source camera --duration 20 --resize 640x360")
        site.follow()
    return any(frame.source == "camera" for frame in site.frames())


@pytest.mark.slow
def test_own_consumer(reader, bucket):
    reader.open(
        "own-consumer", words_of_bucket(bucket, "camera-archive") | {"kafka:9092": reader.kafka.bootstrap_servers}
    )
    add_settings(
        reader,
        IMGPIPELINE_S3_ENDPOINT=bucket.endpoint,
        AWS_ACCESS_KEY_ID=bucket.access_key_id,
        AWS_SECRET_ACCESS_KEY=bucket.secret_access_key,
    )
    bucket.store().put("gate/0007.jpg", jpeg(7))
    image = {"bucket": bucket.name, "image_key": "gate/0007.jpg", "timestamp": "2026-01-09T12:00:00Z"}
    reader.send("frames", image, b"no JSON")
    old = {
        "image_path": "gate/0001.jpg",
        "timestamp": "2025-01-09T12:00:00Z",
        "detections": [{"label": "car", "confidence": 0.9}],
    }
    (reader.folder / "results.jsonl").write_text(json.dumps(old) + "\n")

    reader.do_everything()

    site = LaneUnderTest(reader.settings)
    assert (len(site.frames()), len(site.dead_letters())) == (2, 1)
    assert len(documents_of(reader.settings, reader.topic("results"))) >= 1
