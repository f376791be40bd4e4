"""Kafka records made to harm, each with what may become of it."""

import json
import random
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from typing import Any

from imgpipeline_tests.fuzz.cases import ANY_CODE, FRAME, HostileRecord, any_text, only
from imgpipeline_tests.fuzz.images import good_files, huge_claims

GOOD = "fuzz/good.jpg"


@cache
def stored_objects() -> dict[str, bytes]:
    """Returns the objects that the records announce, by key; they are put into the store first."""
    return {
        GOOD: good_files()["jpeg 160x120"],
        "fuzz/wide.jpg": good_files()["jpeg 1281x721"],
        "fuzz/cut.jpg": good_files()["jpeg 160x120"][:900],
        "fuzz/empty.jpg": b"",
        "fuzz/huge.png": huge_claims()["30000x30000 png"],
        "fuzz/heavy.bmp": good_files()["bmp 160x120"] + bytes(2**20),
        "fuzz/😀 'quote'.jpg": good_files()["jpeg 33x70"],
        "fuzz/video/7.jpg": good_files()["jpeg 33x70"],
    }


MOST_OBJECT_BYTES = 2**20
MOST_RECORD_BYTES = 2**16
"""The limits that the records are worked on with."""

_TIME = "2026-03-01T12:00:00Z"
_INVALID = only("INVALID_MESSAGE")
_ODD_VALUES: tuple[Any, ...] = (
    True,
    False,
    1.5,
    -1,
    2**63,
    1e300,
    [],
    {},
    [[]],
    "",
    "\x00",
    "\ud800",
    "x" * 2000,
    [None],
)


def hostile_records(seed: int, count: int) -> Iterator[HostileRecord]:
    """Yields records, the same ones for the same seed."""
    rng = random.Random(seed)  # noqa: S311 - a test that can be repeated wants a seed
    for _ in range(count):
        yield rng.choice(_KINDS)(rng)


def _good(rng: random.Random, **changes: Any) -> dict[str, Any]:
    number = rng.randrange(10**9)
    return {"source": any_text(rng), "image_path": GOOD, "timestamp": _TIME, "frame_number": number} | changes


def _json(data: object) -> bytes:
    return json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _record(kind: str, expected: frozenset[str], data: object, **others: Any) -> HostileRecord:
    try:
        value = _json(data)
        value.decode()
    except UnicodeDecodeError:
        value = json.dumps(data).encode()  # lone surrogates as escapes
    return HostileRecord(kind, expected, value, **others)


def _whole(rng: random.Random) -> HostileRecord:
    path = rng.choice((GOOD, "fuzz/wide.jpg", "fuzz/😀 'quote'.jpg"))
    extra = {any_text(rng): rng.choice((1, None, any_text(rng), [1, {"a": any_text(rng)}], -1e-300, 2**70))}
    key = rng.choice((None, b"", b"camera", rng.randbytes(8), b"k" * 5000, any_text(rng).encode()))
    return _record("good", only(FRAME), _good(rng, image_path=path, attributes=extra), key=key)


def _other_form(rng: random.Random) -> HostileRecord:
    form = rng.choice(({"image_path": GOOD}, {"video_id": "fuzz/video", "frame_id": rng.choice((7, "7"))}))
    return _record("another producer's form", only(FRAME), form)


def _no_json(rng: random.Random) -> HostileRecord:
    whole = _json(_good(rng))
    value = rng.choice((
        *(whole[: rng.randrange(1, len(whole))], whole + b"}", b"\x00" + rng.randbytes(rng.randrange(60))),
        *(b"\xef\xbb\xbf" + whole, b"'" + whole, whole.replace(b":", b"="), b"{" * 5000, b"[" * 30_000, b"1" * 20_000),
        *(whole + whole, b"null", b"[]", b'"text"', b"12", b"{}", b" ", _json([_good(rng)])),
        whole.decode().encode("utf-16"),
    ))  # fmt: skip
    return HostileRecord("no JSON object", _INVALID, value)


def _nothing(rng: random.Random) -> HostileRecord:
    return HostileRecord("no value", _INVALID, rng.choice((None, b"")))


def _no_number(rng: random.Random) -> HostileRecord:
    text = _json(_good(rng, odd="@")).replace(
        b'"@"', rng.choice((b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e400"))
    )
    return HostileRecord("NaN or infinity", _INVALID, text)


def _nested(rng: random.Random) -> HostileRecord:
    depth = rng.choice((2, 10, 25, 40, 90, 500, 900))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
    inner = opening * depth + b"1" + closing * depth
    field = rng.choice((b"lens", b"attributes", b"image_path"))
    fits = depth <= 25 and (field == b"lens" or (field == b"attributes" and opening != b"["))
    value = b'{"image_path": "%s", "timestamp": "%s", "%s": %s}' % (GOOD.encode(), _TIME.encode(), field, inner)
    return HostileRecord("deep nesting", only(FRAME) if fits else _INVALID, value)


def _wrong_type(rng: random.Random) -> HostileRecord:
    name = rng.choice(("frame_number", "width", "height", "size_bytes"))
    values = [v for v in _ODD_VALUES if v is not None]
    return _record("wrong type of a number", _INVALID, _good(rng, **{name: rng.choice(values)}))


def _wrong_text(rng: random.Random) -> HostileRecord:
    name = rng.choice(("image_path", "source", "sha256"))
    # A number may name a source.
    values = [v for v in _ODD_VALUES if name != "source" or isinstance(v, bool | float) or not isinstance(v, int)]
    return _record("wrong text", _INVALID, _good(rng, **{name: rng.choice(values)}))


def _wrong_attributes(rng: random.Random) -> HostileRecord:
    odd = rng.choice(({"a": "\x00"}, {"\x00": 1}, {"a": ["\ud800"]}, [], "text", 1, True))
    return _record("wrong attributes", _INVALID, _good(rng, attributes=odd))


def _no_utf8(rng: random.Random) -> HostileRecord:
    whole, bad = _json(_good(rng)), rng.choice((b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x80"))
    at = rng.randint(1, len(whole) - 1)
    while whole[at] & 0xC0 == 0x80:  # not inside a character, which the bytes might complete
        at -= 1
    return HostileRecord("not UTF-8", _INVALID, whole[:at] + bad + b" " + whole[at:])


def _forbidden_path(rng: random.Random) -> HostileRecord:
    name = any_text(rng).replace("\n", "").replace("\t", "").replace("/", "") or "x"
    path = rng.choice((
        *(f"../{name}", f"a/../../{name}", f"fuzz/../{GOOD}", "/etc/passwd", f"//{name}", f"fuzz//{name}", "fuzz/"),
        *(f"%2e%2e/{name}", f"fuzz/%2E%2E%2f{name}", f"..\\{name}", f"fuzz/%00{name}", f"fuzz/\x1b[2J{name}", "a\nb"),
        *("file:///etc/passwd", "FILE:///etc/passwd", "http://169.254.169.254/latest/meta-data", "https://example.org/a"),
        *("gopher://x/1", ".", "data:image/png;base64,AAAA", "C:\\x", "s3://", "s3://other", "s3://other/a.jpg", "s3:///a"),
        *(f"s3://other/../{name}", "s3://169.254.169.254/a", "S3://other/a", "ftp:a", "./" + GOOD, "fuzz/./good.jpg"),
    ))  # fmt: skip
    return _record("path that is not allowed", only("PATH_NOT_ALLOWED"), _good(rng, image_path=path))


def _other_bucket(rng: random.Random) -> HostileRecord:
    data = {
        rng.choice(("bucket", "bucket_name")): rng.choice(("other", "..", "169.254.169.254")),
        "image_key": "a/b.jpg",
    }
    return _record("another bucket", only("PATH_NOT_ALLOWED"), data)


def _missing(rng: random.Random) -> HostileRecord:
    name = f"{rng.randrange(10**9)}"
    path = rng.choice(
        (f"fuzz/none/{name}.jpg", f"{GOOD}/{name}", f"fuzz/{'x' * 300}{name}", "fuzz/" + "y/" * 400 + name, "fuzz")
    )
    return _record("missing object", only("OBJECT_NOT_FOUND"), _good(rng, image_path=path))


def _bad_object(rng: random.Random) -> HostileRecord:
    path, code = rng.choice((
        *(("fuzz/cut.jpg", "DECODE_FAILED"), ("fuzz/empty.jpg", "EMPTY_OBJECT")),
        *(("fuzz/huge.png", "IMAGE_TOO_LARGE"), ("fuzz/heavy.bmp", "TOO_LARGE")),
    ))  # fmt: skip
    return _record("bad object", only(code), _good(rng, image_path=path))


def _odd_time(rng: random.Random) -> HostileRecord:
    times, expected = rng.choice((
        (("1970-01-01T00:00:00Z", "1999-12-31T23:59:59Z", "2099-01-01", "0001-01-01T00:00:00Z", 0, -1e9, 9e11, 4e12),
         only("TIMESTAMP_OUT_OF_RANGE")),
        (("yesterday", "2026-13-45", "2026-02-30T00:00:00Z", "20260301", "1767960000000", True, [], {"a": 1}, 1e300,
          "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2026-03-01T25:00:00Z", "\uff12026-03-01", 10**40),
         _INVALID),
        (("2026-03-01", "2026-03-01t12:00:00z", "2026-03-01 12:00:00+14:00", "2026-03-01T12:00:00.123456789-11:00",
          1772366400, 1772366400.5, 1772366400000, None, "", " 2026-03-01T12:00:00Z "), only(FRAME)),
    ))  # fmt: skip
    return _record("odd time", expected, _good(rng, timestamp=rng.choice(times)))


def _no_time(rng: random.Random) -> HostileRecord:
    data = {"image_path": GOOD, "source": any_text(rng)}
    return _record("no time at all", _INVALID, data, has_time=False)


def _long(rng: random.Random) -> HostileRecord:
    size = rng.choice((MOST_RECORD_BYTES // 2, MOST_RECORD_BYTES * 2))
    fits = only(FRAME) if size < MOST_RECORD_BYTES else only("TOO_LARGE")
    return _record("huge text", fits, _good(rng, note=rng.choice("x\"'\\") * (size // 2)))


def _announced_otherwise(rng: random.Random) -> HostileRecord:
    data = stored_objects()[GOOD]
    right = {"size_bytes": len(data), "sha256": sha256(data).hexdigest().upper()}
    if rng.random() < 0.3:
        return _record("announced as it is", only(FRAME), _good(rng, **right))
    wrong = rng.choice(({"size_bytes": len(data) + 1}, {"sha256": "0" * 64}, {"size_bytes": 0}))
    return _record("announced otherwise", only("HASH_MISMATCH"), _good(rng, **(right | wrong)))


def _header_tricks(rng: random.Random) -> HostileRecord:
    headers, expected = rng.choice((
        ((("content-type", b"image/jpeg"),), only("DECODE_FAILED")),
        ((("Content-Type", b"image/x"), ("source", b"a\xff")), _INVALID),
        ((("replay_of", b"frames/0/x"),), _INVALID),
        ((("replay_of", b"\xff"),), _INVALID),
        ((("replay_of", b"frames/0/5"),), only(FRAME)),
        ((("content-type", b"image/png"), ("content-type", b"application/json")), only(FRAME)),
        (tuple((any_text(rng), rng.randbytes(9)) for _ in range(20)), only(FRAME)),
        ((("x", b"y" * 9000),), only(FRAME)),
    ))  # fmt: skip
    return _record("headers", expected, _good(rng), headers=headers)


def _inline_image(rng: random.Random) -> HostileRecord:
    good = good_files()[rng.choice(("jpeg 160x120", "png 33x70", "webp 33x70", "gif 16x16", "bmp 7x5", "alpha png"))]
    value, expected, headers = rng.choice((
        (good, only(FRAME), ()),
        (good, only(FRAME), (("source", any_text(rng).encode()), ("timestamp", _TIME.encode()))),
        (good, _INVALID, (("timestamp", b"soon"),)),
        (good, _INVALID, (("source", b"\x00"),)),
        (good, only("TIMESTAMP_OUT_OF_RANGE"), (("timestamp", b"1970-01-01"),)),
        (good[: len(good) // 2], only("DECODE_FAILED"), ()),
        (huge_claims()["huge gif"], only("IMAGE_TOO_LARGE", "TOO_LARGE"), ()),
    ))  # fmt: skip
    return HostileRecord(
        "image in the record", expected, value, key=rng.choice((None, b"cam", b"\xff\xfe")), headers=headers
    )


def _flipped(rng: random.Random) -> HostileRecord:
    value = bytearray(_json(_good(rng, attributes={"a": [1, 2.5]})))
    for _ in range(rng.randint(1, 4)):
        value[rng.randrange(len(value))] ^= 1 << rng.randrange(8)
    return HostileRecord("bits flipped", ANY_CODE, bytes(value))


_KINDS: tuple[Callable[[random.Random], HostileRecord], ...] = (
    *(_whole, _other_form, _no_json, _no_json, _nothing, _no_number, _nested, _wrong_type, _wrong_text, _no_utf8),
    *(_wrong_attributes, _forbidden_path, _forbidden_path, _other_bucket, _missing, _bad_object, _odd_time, _odd_time),
    *(_no_time, _long, _announced_otherwise, _header_tricks, _inline_image, _flipped, _flipped),
)
