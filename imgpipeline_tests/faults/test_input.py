"""Faults 19 to 26: wrong input ends as the right dead letter, costs little, and its neighbours are processed."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from imgpipeline.lake.sessions.session import open_lake
from imgpipeline_tests.detect.conftest import LaneUnderTest, encode, jpeg, message
from imgpipeline_tests.detect.test_lane import FORBIDDEN
from imgpipeline_tests.faults.counting_relay import CountingRelay
from imgpipeline_tests.faults.invariant import Held, check, raw_of
from imgpipeline_tests.objectstore.answer_losing_proxy import AnswerLosingProxy
from imgpipeline_tests.servers.ports import LOOPBACK
from imgpipeline_tests.vision.pictures import detailed_picture, hollow_png

pytestmark = pytest.mark.slow

SPOILED = "images/camera/spoiled.jpg"


def worked(lane: LaneUnderTest, *bad: bytes | None) -> Held:
    """Works bad records between two good ones, and checks that those became frames and each bad one a dead letter."""
    good = lane.put_image("images/camera/good.jpg")
    lane.send(message(image_path=good, frame_number=1), *bad, message(image_path=good, frame_number=2))
    lane.follow()
    held = check(lane.settings)
    assert [frame["source_kafka_offset"] for frame in held.frames] == [0, len(bad) + 1]
    assert [letter["offset"] for letter in held.dead_letters] == list(range(1, len(bad) + 1))
    return held


@pytest.mark.fault(19)
@pytest.mark.parametrize(
    "twice", [{"frame_number": 3}, {}, {"timestamp": None}], ids=["by number", "by path", "without a time"]
)
def test_fault_19_an_image_that_is_announced_twice_is_one_frame_in_every_number(lane, tmp_path, twice):
    once = lane.put_image("images/camera/one.jpg")
    lane.send(message(image_path=once, **twice))
    lane.follow()
    with open_lake(lane.store, cache_dir=tmp_path / "cache") as session:
        before = session.query("SELECT label, sum(count), sum(distinct_frames) FROM label_counts GROUP BY ALL").rows
    lane.send(message(image_path=once, **twice), key=b"another key")
    lane.follow()

    held = check(lane.settings)
    assert len(held.frames) == 2
    assert len({frame["frame_id"] for frame in held.frames}) == 1
    with open_lake(lane.store, cache_dir=tmp_path / "cache") as session:
        assert session.query("SELECT count(*) FROM frames").rows == [(1,)]
        after = session.query("SELECT label, sum(count), sum(distinct_frames) FROM label_counts GROUP BY ALL").rows
    assert sorted(after) == sorted(before) != []


@pytest.mark.fault(20)
def test_fault_20_an_object_without_bytes_is_a_dead_letter(lane):
    held = worked(lane, message(image_path=lane.put_image(SPOILED, b"")))
    assert held.codes == {"EMPTY_OBJECT": 1}


@pytest.mark.fault(21)
def test_fault_21_a_corrupt_or_cut_image_is_a_dead_letter_without_detections(lane):
    whole = {".jpg": jpeg(), ".png": encode(detailed_picture(), ".png"), ".webp": encode(detailed_picture(), ".webp")}
    spoiled = [data[: len(data) // 2] for data in whole.values()]
    spoiled += [whole[".png"][:5000] + b"\xff" * 9 + whole[".png"][5009:], b"GIF89a", b"no image at all"]
    paths = [lane.put_image(f"images/camera/spoiled-{number}.jpg", data) for number, data in enumerate(spoiled)]

    held = worked(lane, *[message(image_path=path) for path in paths])

    assert held.codes == {"DECODE_FAILED": len(spoiled)}
    assert {frame["source_image_path"] for frame in held.frames if frame["detections"]} <= {"images/camera/good.jpg"}


MEASURED = """
import json, resource, sys
from pathlib import Path
from imgpipeline.errors import BadInputError
from imgpipeline.vision.decode import ImageLimits, decode_image

limits = ImageLimits(100_000_000, 64 * 2**20)
decode_image(Path(sys.argv[1]).read_bytes(), limits)
data = Path(sys.argv[2]).read_bytes()
before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode_image(data, limits)
    code = "decoded"
except BadInputError as error:
    code = error.code.value
after_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"code": code, "extra_kb": after_kb - before_kb}))
"""


@pytest.mark.fault(22)
def test_fault_22_a_picture_of_900_million_pixels_is_refused_in_100_mb(lane, tmp_path):
    """The file has about 100 kB. Measured in a process that has decoded nothing but a small picture before."""
    huge = hollow_png(30_000, 30_000)
    assert 50_000 < len(huge) < 200_000
    (tmp_path / "small.jpg").write_bytes(jpeg())
    (tmp_path / "huge.png").write_bytes(huge)
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "small.jpg"), str(tmp_path / "huge.png")]
    measured = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    assert measured["code"] == "IMAGE_TOO_LARGE"
    assert measured["extra_kb"] < 100_000

    held = worked(lane, message(image_path=lane.put_image("images/camera/huge.png", huge)))
    assert held.codes == {"IMAGE_TOO_LARGE": 1}
    assert "30000" in held.dead_letters[0]["message"]


@pytest.mark.fault(23)
def test_fault_23_a_missing_object_is_asked_for_three_times_and_is_a_dead_letter_then(lane, s3):
    lane.put_image("images/camera/good.jpg")
    with AnswerLosingProxy(s3.port) as proxy:
        beside = lane.with_settings(s3_endpoint=proxy.endpoint)
        held = worked(beside, message(image_path="images/camera/never-there.jpg"))
        assert len(proxy.fates("GET", "never-there.jpg")) == 3
    assert held.codes == {"OBJECT_NOT_FOUND": 1}


@pytest.mark.fault(24)
def test_fault_24_no_request_is_made_for_a_path_that_is_refused(lane, s3, bucket):
    """Neither to the host that a message names, nor to the store."""
    with socket.create_server((LOOPBACK, 0)) as bait, AnswerLosingProxy(s3.port) as proxy:
        host = f"{LOOPBACK}:{bait.getsockname()[1]}"
        refused = [*FORBIDDEN, f"http://{host}/a.jpg", f"https://{host}/a.jpg", f"ftp://{host}/a.jpg", f"//{host}/a"]
        refused += [f"s3://{host}/a.jpg", "%2e%2e/a.jpg", "s3://another-bucket/a.jpg", "http://169.254.169.254/latest"]
        held = worked(lane.with_settings(s3_endpoint=proxy.endpoint), *[message(image_path=path) for path in refused])
        bait.settimeout(0)
        with pytest.raises(BlockingIOError):
            bait.accept()
    assert held.codes == {"PATH_NOT_ALLOWED": len(refused)}
    asked = {path for method, path, _ in proxy.seen if method in ("GET", "HEAD") and "/metadata" not in path}
    assert {path for path in asked if Path(path).suffix not in ("", ".parquet")} == {
        f"/{bucket.name}/lane/images/camera/good.jpg"
    }


WATCHED = """
import json, sys

from imgpipeline.errors import BadInputError
from imgpipeline.objectstore import ImageReader, open_store
from imgpipeline.settings import load_settings

settings = load_settings(store_url=sys.argv[1], allowed_image_locations="s3://archive/2026")
reader = ImageReader(open_store(settings), settings)
calls, codes = [], []

def watch(event, arguments):
    if watching and event.split(".")[0] in {"open", "os", "socket", "subprocess", "urllib", "http", "ctypes"}:
        calls.append(f"{event} {arguments}")

sys.addaudithook(watch)
for path in json.loads(sys.argv[2]):
    watching = True
    try:
        reader.read(path)
        codes.append("read")
    except BadInputError as error:
        codes.append(error.code.value)
    watching = False
print(json.dumps({"calls": calls, "codes": sorted(set(codes))}))
"""


@pytest.mark.fault(24)
def test_fault_24_the_interpreter_opens_no_file_and_no_connection_for_a_path_that_is_refused(tmp_path):
    """A picture lies where the path leads to: it would be read, were it looked for."""
    store = tmp_path / "store"
    (tmp_path / "secret.jpg").write_bytes(jpeg())
    paths = ["../secret.jpg", "a/../../secret.jpg", str(tmp_path / "secret.jpg"), (tmp_path / "secret.jpg").as_uri()]
    command = [sys.executable, "-c", WATCHED, store.as_uri(), json.dumps([*FORBIDDEN, *paths])]
    seen = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    assert seen == {"calls": [], "codes": ["PATH_NOT_ALLOWED"]}


INVALID = {
    b"{not json": "value",
    b'{"image_path": NaN}': "NaN",
    b'{"image_path": "a.jpg", "lens": -Infinity}': "Infinity",
    b'["image_path"]': "list",
    b'{"timestamp": "2026-03-01T12:00:00Z"}': "image_path",
    b'{"image_path": "a.jpg", "frame_number": "seven"}': "frame_number",
    b'{"image_path": "a.jpg", "timestamp": "yesterday"}': "timestamp",
    b'{"image_path": "a.jpg", "sha256": "beef"}': "sha256",
    b'{"image_path": "a.jpg", "attributes": 5}': "attributes",
    b"\xff\xfe\x00": "UTF-8",
}


@pytest.mark.fault(25)
def test_fault_25_a_message_that_is_none_names_its_field_and_its_bytes_are_kept(lane):
    held = worked(lane, None, b"", *INVALID)
    assert held.codes == {"INVALID_MESSAGE": len(INVALID) + 2}
    null, empty, *letters = held.dead_letters
    assert (null["raw_sha256"], null["raw_size_bytes"], "null" in null["message"]) == (None, 0, True)
    assert (raw_of(lane.store, empty), empty["raw_size_bytes"], "empty" in empty["message"]) == (b"", 0, True)
    for letter, (value, named) in zip(letters, INVALID.items(), strict=True):
        assert raw_of(lane.store, letter) == value
        assert named in letter["message"]


@pytest.mark.fault(26)
def test_fault_26_the_body_of_an_object_beyond_the_limit_is_not_loaded(lane, s3):
    size_bytes = 60 * 2**20
    large = lane.put_image("images/camera/large.jpg", b"\xff\xd8\xff" + b"\0" * size_bytes)
    lane.send(message(image_path=large))
    with CountingRelay(s3.port) as relay:
        lane.with_settings(max_image_bytes=2**20, s3_endpoint=relay.endpoint).follow()
        assert 0 < relay.answered_bytes < size_bytes / 4
    held = check(lane.settings)
    assert held.codes == {"TOO_LARGE": 1}
    assert f"{size_bytes + 3}" in held.dead_letters[0]["message"]


@pytest.mark.fault(26)
def test_fault_26_a_record_beyond_the_limit_is_not_parsed(lane, monkeypatch):
    parsed: list[int] = []
    from imgpipeline.detect import work  # noqa: PLC0415 - the module that is watched

    original = work.parse_record
    monkeypatch.setattr(
        work, "parse_record", lambda record, **kw: (parsed.append(record.offset), original(record, **kw))[1]
    )
    held = worked(lane.with_settings(max_message_bytes=4096), b"{" * 5000, message(note="x" * 5000))
    assert held.codes == {"TOO_LARGE": 2}
    assert parsed == [0, 3]
