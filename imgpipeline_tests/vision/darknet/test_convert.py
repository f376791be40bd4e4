"""Darknet's files become ONNX, or an error that names the layer, what was found and what was expected."""

import hashlib
import struct
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgpipeline.errors import PermanentError
from imgpipeline.vision.darknet import LARGEST_CFG_BYTES, Network, convert_darknet, parse_cfg, read_weights
from imgpipeline_tests.examples import examples
from imgpipeline_tests.vision.darknet.random_weights import random_weights
from imgpipeline_tests.vision.darknet.small_networks import EVERY_LAYER, ONE_CONVOLUTION

FLOATS = 8 * 4 + 8 * 3 * 9 + 18 + 18 * 8


def convert(folder: Path, cfg: str, weights: bytes) -> Path:
    (folder / "model.cfg").write_text(cfg, encoding="utf-8")
    (folder / "model.weights").write_bytes(weights)
    out = folder / "out" / "model.onnx"
    sha256 = convert_darknet(folder / "model.cfg", folder / "model.weights", out)
    assert sha256 == hashlib.sha256(out.read_bytes()).hexdigest()
    return out


def test_every_output_has_a_declared_shape(tmp_path):
    model = onnx.load(convert(tmp_path, EVERY_LAYER, random_weights(EVERY_LAYER, 0)))
    shapes = [[d.dim_value for d in o.type.tensor_type.shape.dim] for o in model.graph.output]
    assert shapes == [[1, 3 * 12 * 8 + 3 * 24 * 16, 8]]


def test_a_conversion_gives_the_same_bytes_twice_and_leaves_no_other_files(tmp_path):
    weights = random_weights(EVERY_LAYER, 3)
    assert convert(tmp_path, EVERY_LAYER, weights).read_bytes() == convert(tmp_path, EVERY_LAYER, weights).read_bytes()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("old", "new", "layer", "actual", "expected"),
    [
        ("[yolo]", "[detection]", "layer 2", "'detection'", "one of convolutional"),
        ("activation=leaky", "activation=selu", "layer 0", "'selu'", "leaky"),
        ("filters=18", "filters=17", "layer 2", "17 channels", "18 = 3 anchors"),
        ("mask=0,1,2", "mask=0,1,3", "layer 2", "[0, 1, 3]", "pairs of anchors"),
        ("stride=2", "stride=two", "layer 0", "'two'", "whole number"),
        ("stride=2", "stride=0", "layer 0", "stride 0", "above 0"),
        ("pad=1", "pad=1\nantialiasing=1", "layer 0", "antialiasing=1", "without this option"),
        ("classes=1", "classes=1\nnew_coords=1", "layer 2", "new_coords=1", "without this option"),
        ("[yolo]", "[route]\nlayers=7\n[yolo]", "layer 2", "'7'", "earlier layers, 0 to 1"),
        ("[yolo]", "[shortcut]\nfrom=-2\n[yolo]", "layer 2", "different shape", "one shape"),
        ("[yolo]", "[route]\nlayers=-1\ngroups=4\n[yolo]", "layer 2", "group 0 of 4", "whole groups"),
        ("channels=3", "channels=1", "[net]", "1 channels", "3 channels"),
        ("width=32", "width=0", "[net]", "0x32", "1 to 8192 pixels"),
        ("width=32", "width=100000000", "[net]", "100000000x32 pixels", "1 to 8192"),
        ("[yolo]", "[upsample]\nstride=64\n[upsample]\nstride=64\n[yolo]", "layer 3", "pixels", "1 to 8192"),
        ("anchors=", f"anchors={10**400},1,", "layer 2", "anchors from 1", "1 to 8192"),
        ("classes=1", "classes=0", "layer 2", "0 classes", "1 or more"),
        ("classes=1", "classes=1\nscale_x_y=inf", "layer 2", "'inf'", "a finite number"),
        ("[yolo]", "[upsample]\nstride=200\n[yolo]", "layer 3", "30720000 boxes", "at most 1000000"),
    ],
    ids=[
        *("layer type", "activation", "filters", "mask", "stride text", "stride 0", "antialiasing", "new_coords"),
        *("later layer", "shortcut shape", "groups", "channels", "width 0", "width", "upsample", "anchor", "classes"),
        *("scale", "boxes"),
    ],
)
def test_what_cannot_be_converted_is_named(old, new, layer, actual, expected):
    with pytest.raises(PermanentError) as caught:
        Network(parse_cfg(ONE_CONVOLUTION.replace(old, new, 1)))
    for part in (layer, actual, expected):
        assert part in str(caught.value)


def test_files_that_are_too_large_or_have_no_end_are_refused(tmp_path):
    (tmp_path / "net.cfg").write_text("#" * (LARGEST_CFG_BYTES + 1))
    with pytest.raises(PermanentError, match=r"more than 1,048,576 bytes"):
        convert_darknet(tmp_path / "net.cfg", tmp_path / "no.weights", tmp_path / "net.onnx")
    with pytest.raises(PermanentError, match="/dev/zero is not a file"):
        convert_darknet(Path("/dev/zero"), tmp_path / "no.weights", tmp_path / "net.onnx")


def test_a_cfg_without_a_yolo_layer_is_refused():
    with pytest.raises(PermanentError, match=r"without a \[yolo\] layer"):
        Network(parse_cfg(ONE_CONVOLUTION.split("[yolo]")[0]))


@pytest.mark.parametrize("text", ["", "hello", "[convolutional]\n[yolo]", "[net]\nwidth", "a=1\n[net]"])
def test_an_invalid_cfg_is_refused(text):
    with pytest.raises(PermanentError, match="Darknet cfg"):
        parse_cfg(text)


@given(st.text(alphabet="[]=,-#\n 0123456789netyolrugxp", max_size=200))
def test_any_text_is_read_or_refused(text):
    assert outcome(text) in ("read", "refused")


def outcome(text: str) -> str:
    try:
        Network(parse_cfg("[net]\n" + text))
    except PermanentError:
        return "refused"
    return "read"


@given(cut=st.integers(1, FLOATS))
@settings(max_examples=examples(30))
def test_short_weights_name_the_layer_and_both_numbers(cut):
    network = Network(parse_cfg(ONE_CONVOLUTION))
    data = random_weights(ONE_CONVOLUTION, 1)
    with pytest.raises(PermanentError) as caught:
        read_weights(data[: len(data) - 4 * cut], network.convolutions)
    first = 8 * 4 + 8 * 3 * 9
    layer = 1 if FLOATS - cut >= first else 0
    assert f"layer {layer} [convolutional]" in str(caught.value)
    assert f"the file has {FLOATS - cut}" in str(caught.value)


def test_over_long_weights_name_both_numbers():
    network = Network(parse_cfg(ONE_CONVOLUTION))
    with pytest.raises(PermanentError, match=rf"end at float {FLOATS}; the file has {FLOATS + 1}"):
        read_weights(random_weights(ONE_CONVOLUTION, 1) + b"\0" * 4, network.convolutions)


@pytest.mark.parametrize("data", [b"", b"abc", struct.pack("<iii", 0, 2, 5), random_weights(ONE_CONVOLUTION, 1) + b"x"])
def test_an_invalid_weights_file_is_refused(data):
    with pytest.raises(PermanentError, match="Darknet weights"):
        read_weights(data, Network(parse_cfg(ONE_CONVOLUTION)).convolutions)


def test_weights_that_are_not_finite_are_refused():
    data = bytearray(random_weights(ONE_CONVOLUTION, 1))
    data[-4:] = struct.pack("<f", float("nan"))
    with pytest.raises(PermanentError, match=r"layer 1 \[convolutional\] needs finite weights"):
        read_weights(bytes(data), Network(parse_cfg(ONE_CONVOLUTION)).convolutions)


def test_the_header_of_old_files_is_four_bytes_shorter():
    network = Network(parse_cfg(ONE_CONVOLUTION))
    data = random_weights(ONE_CONVOLUTION, 1)
    old = struct.pack("<iiii", 0, 1, 0, 7) + data[20:]
    (old_kernel, _), _ = read_weights(old, network.convolutions)
    (new_kernel, _), _ = read_weights(data, network.convolutions)
    np.testing.assert_array_equal(old_kernel, new_kernel)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(PermanentError, match=r"nowhere\.cfg"):
        convert_darknet(tmp_path / "nowhere.cfg", tmp_path / "nowhere.weights", tmp_path / "out.onnx")
