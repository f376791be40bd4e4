"""Absurd cfg files are refused immediately, without filling the memory."""

import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imgpipeline.errors import PermanentError
from imgpipeline.vision.darknet import (
    LARGEST_CFG_BYTES,
    LARGEST_SIDE,
    MOST_BOXES,
    MOST_CHANNELS,
    MOST_LAYERS,
    Network,
    convert_darknet,
    parse_cfg,
)
from imgpipeline_tests.examples import examples
from imgpipeline_tests.vision.darknet.random_weights import random_weights

NET = "[net]\nwidth=32\nheight=32\nchannels=3\n"
CONVOLUTION = "[convolutional]\nfilters=18\nsize=1\nstride=1\nactivation=linear\n"
YOLO = "[yolo]\nmask=0,1,2\nanchors=1,1, 2,2, 3,3\nclasses=1\n"
SMALL = NET + CONVOLUTION + YOLO
MOST_MEMORY_BYTES = 200 * 2**20
MOST_FUZZED_WEIGHTS = 100_000


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("width=32", "width=100000000", "100000000x32 pixels; expected 1 to 8192"),
        ("height=32", "height=100000000", "32x100000000 pixels; expected 1 to 8192"),
        ("height=32", "height=-5", "expected 1 to 8192"),
        ("channels=3", "channels=100000000", "100000000 channels; expected 3"),
        ("filters=18", "filters=100000000", "100000000 channels; expected 1 to 65536"),
        ("size=1", "size=100000000", "size 100000000; expected at most 64"),
        ("stride=1", "stride=100000000", "stride 100000000; expected at most 64"),
        ("activation", "padding=100000000\nactivation", "padding 100000000; expected at most 64"),
        ("1,1, 2,2", f"{10**400},1, 2,2", "expected 1 to 65536"),
        ("classes=1", "classes=0", "0 classes; expected 1 or more"),
        ("classes=1", "classes=1\nscale_x_y=inf", "expected a finite number"),
        (YOLO, "[upsample]\nstride=64\n" * 3 + YOLO, "131072x131072 pixels"),
        (NET, NET.replace("32", "4096"), "50331648 boxes; expected at most 1000000"),
        (YOLO, CONVOLUTION * (MOST_LAYERS - 1) + YOLO, "1001 layers; expected at most 1000"),
        (YOLO, YOLO + CONVOLUTION + YOLO, "layer 2 [convolutional]: it reads layer 1, a [yolo] layer"),
        (YOLO, "[route]\nlayers=-1,-1\n" * 12 + YOLO, "73728 channels"),
    ],
    ids=["width", "height", "negative", "channels", "filters", "kernel", "stride", "padding", "anchor", "classes",
         "scale", "upsample", "boxes", "layers", "yolo before", "route"],
)  # fmt: skip
def test_a_cfg_of_absurd_size_is_refused_before_the_weights_are_read(old: str, new: str, says: str, tmp_path: Path):
    (tmp_path / "net.cfg").write_text(SMALL.replace(old, new))
    with pytest.raises(PermanentError) as refused:
        convert_darknet(tmp_path / "net.cfg", tmp_path / "no.weights", tmp_path / "net.onnx")
    assert says in refused.value.message


def test_files_that_are_too_large_or_have_no_end_are_refused(tmp_path: Path):
    (tmp_path / "net.cfg").write_text("#" * (LARGEST_CFG_BYTES + 1))
    with pytest.raises(PermanentError, match=r"more than 1,048,576 bytes"):
        convert_darknet(tmp_path / "net.cfg", tmp_path / "no.weights", tmp_path / "net.onnx")
    with pytest.raises(PermanentError, match="/dev/zero is not a file"):
        convert_darknet(Path("/dev/zero"), tmp_path / "no.weights", tmp_path / "net.onnx")


def test_a_cfg_that_needs_more_weights_than_the_file_has_is_refused(tmp_path: Path):
    (tmp_path / "net.cfg").write_text(SMALL.replace(CONVOLUTION, CONVOLUTION.replace("18", "65536") + CONVOLUTION))
    (tmp_path / "net.weights").write_bytes(struct.pack("<iiiq", 0, 2, 0, 0) + bytes(400))
    with pytest.raises(PermanentError, match="needs floats 0 to 262144; the file has 100"):
        convert_darknet(tmp_path / "net.cfg", tmp_path / "net.weights", tmp_path / "net.onnx")


numbers = st.one_of(
    st.integers(-3, 20), st.sampled_from([32, 64, 416, 4096, 8192, 65_536, 2**31, 2**63, 10**30]), st.integers()
)
options = st.sampled_from(
    ["width", "height", "channels", "filters", "size", "stride", "padding", "pad", "groups", "group_id", "layers",
     "from", "classes", "mask", "anchors", "batch_normalize", "scale_x_y", "activation", "dilation"]
)  # fmt: skip
values = st.one_of(
    numbers.map(str), st.lists(numbers, max_size=9).map(lambda some: ",".join(map(str, some))),
    st.sampled_from(["leaky", "mish", "linear", "nan", "1e400", "0x10", "٣", ""]), st.text(max_size=8),
)  # fmt: skip
lines = st.tuples(options, values).map("=".join)
kinds = st.sampled_from(["net", "convolutional", "maxpool", "route", "shortcut", "upsample", "yolo", "dropout"])
sections = st.tuples(kinds, st.lists(lines, max_size=6)).map(lambda one: "\n".join([f"[{one[0]}]", *one[1]]))
known_layers = st.sampled_from([CONVOLUTION, YOLO, "[route]\nlayers=-1\n", "[upsample]\n", "[maxpool]\nsize=2\n"])
cfgs = st.one_of(
    st.text(),
    st.lists(sections, max_size=8).map("\n".join),
    st.lists(st.one_of(known_layers, sections), max_size=8).map(lambda parts: NET + "\n".join(parts)),
    st.tuples(st.lists(lines, max_size=3), st.lists(lines, max_size=2)).map(
        lambda extra: "\n".join([NET, *extra[0], CONVOLUTION, *extra[1], YOLO])
    ),
)


def check_bounds(network: Network) -> None:
    """Assert that what a network asks for is bounded."""
    for channels, height, width in network.shapes:
        assert 1 <= channels <= MOST_CHANNELS
        assert 1 <= min(height, width) <= max(height, width) <= LARGEST_SIDE
    assert 1 <= network.boxes <= MOST_BOXES


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.too_slow])
@given(cfg=cfgs)
def test_whatever_a_cfg_says_it_is_planned_within_the_bounds_or_refused(cfg: str):
    tracemalloc.start()
    try:
        check_bounds(Network(parse_cfg(cfg)))
    except PermanentError:
        pass
    finally:
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < MOST_MEMORY_BYTES


LINEAR = "[convolutional]\nfilters=18\nsize=1\nstride=1\nactivation=linear\n"


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(
    net=st.lists(lines, max_size=2), convolution=st.lists(lines, max_size=2), between=st.lists(known_layers, max_size=3)
)
@example(net=[], convolution=["filters=1"], between=[LINEAR])
@example(net=[], convolution=["groups=0"], between=[])
def test_whatever_is_planned_is_converted_in_bounded_memory_or_refused(
    net: list[str], convolution: list[str], between: list[str], tmp_path_factory: pytest.TempPathFactory
):
    cfg = "\n".join([NET, *net, CONVOLUTION, *convolution, *between, YOLO])
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "net.cfg").write_text(cfg, encoding="utf-8", errors="replace")
    weights = b""
    try:
        if sum(one.floats for one in Network(parse_cfg(cfg)).convolutions) <= MOST_FUZZED_WEIGHTS:
            weights = random_weights(cfg, 0)
    except PermanentError:
        return
    (folder / "net.weights").write_bytes(weights)
    tracemalloc.start()
    try:
        convert_darknet(folder / "net.cfg", folder / "net.weights", folder / "net.onnx")
    except PermanentError:
        pass
    finally:
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < MOST_MEMORY_BYTES
