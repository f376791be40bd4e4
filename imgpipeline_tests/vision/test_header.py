"""Headers are read in constant time, and never beyond the end of the file."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline.vision.header import ImageHeader, read_header, read_orientation
from imgpipeline_tests.vision.pictures import detailed_picture, encode, exif_block, raw_tiff, with_orientation

FORMATS = {".jpg": "jpeg", ".png": "png", ".webp": "webp", ".gif": "gif", ".bmp": "bmp", ".tiff": "tiff"}
FILES = {ending: encode(ending, detailed_picture(61, 47)) for ending in FORMATS}


@pytest.mark.parametrize(("ending", "name"), FORMATS.items())
def test_the_size_is_read_without_decoding(ending, name):
    assert read_header(FILES[ending]) == ImageHeader(name, 61, 47, 1)


def test_lossless_and_extended_webp_are_read():
    lossless = encode(".webp", detailed_picture(61, 47), 64, 101)
    assert lossless[12:16] == b"VP8L"
    assert read_header(lossless) == ImageHeader("webp", 61, 47, 1)
    assert read_header(with_orientation(lossless, 6)) == ImageHeader("webp", 61, 47, 6)


def test_a_webp_frame_that_is_larger_than_its_canvas_counts():
    data = bytearray(with_orientation(FILES[".webp"], 1))
    data[24:30] = b"\0" * 6
    assert (read_header(bytes(data)).width, read_header(bytes(data)).height) == (61, 47)


@pytest.mark.parametrize("lost", [bytes(100), b"\xff\xd8\xff\xe0 end of another file"], ids=["zeros", "another file"])
def test_a_webp_that_lost_the_orientation_after_its_picture_is_refused(lost):
    data = with_orientation(FILES[".webp"], 6)
    at = data.index(b"EXIF")
    with pytest.raises(BadInputError, match="not a chunk"):
        read_header(data[:at] + lost[: len(data) - at])


def test_a_bmp_that_is_stored_upside_down_has_a_positive_height():
    data = bytearray(FILES[".bmp"])
    struct.pack_into("<i", data, 22, -47)
    assert read_header(bytes(data)).height == 47


def test_an_old_bmp_is_read():
    data = b"BM" + b"\0" * 12 + struct.pack("<IHHHH", 12, 61, 47, 1, 24)
    assert read_header(data) == ImageHeader("bmp", 61, 47, 1)


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp"])
def test_the_orientation_is_read_in_both_byte_orders(ending):
    for orientation, order in itertools.product(range(1, 9), "<>"):
        assert read_header(with_orientation(FILES[ending], orientation, order)).orientation == orientation


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_makes_no_sense_is_upright(orientation):
    assert read_orientation(exif_block(orientation)) == 1
    assert read_header(raw_tiff(detailed_picture(5, 4), orientation)).orientation == 1


@pytest.mark.parametrize(
    "data", [b"hello world, I am text", b"\xff\xd8", b"%PDF-1.7", b"\0" * 64, b"RIFF\0\0\0\0WAVE", b"G"]
)
def test_files_that_are_not_images_are_refused(data):
    with pytest.raises(BadInputError, match="Not an image of a known format") as caught:
        read_header(data)
    assert caught.value.code is DeadLetterCode.DECODE_FAILED


@pytest.mark.parametrize("ending", FORMATS)
def test_every_cut_header_is_read_or_refused(ending):
    outcomes = {outcome(FILES[ending][:size_bytes]) for size_bytes in range(1, 200)}
    assert outcomes <= {"refused", (61, 47)}
    assert "refused" in outcomes


@given(st.sampled_from(sorted(FORMATS)), st.binary(max_size=300))
def test_any_bytes_after_a_magic_number_are_read_or_refused(ending, tail):
    magic = 12 if ending == ".webp" else 8
    found = outcome(FILES[ending][:magic] + tail)
    assert found == "refused" or isinstance(found, tuple)


@given(st.binary(max_size=400))
def test_any_bytes_as_exif_give_an_orientation(data):
    for prefix in (b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0"):
        assert 1 <= read_orientation(prefix + data) <= 8


def outcome(data: bytes) -> object:
    """Return the outcome of the bytes: `refused`, or a size above 0."""
    try:
        header = read_header(data)
    except BadInputError as error:
        return "refused" if error.code is DeadLetterCode.DECODE_FAILED else error.code
    assert min(header.width, header.height) > 0
    return header.width, header.height
