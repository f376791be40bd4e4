"""The arithmetic from outputs to boxes, against a plain reading and cases worked out by hand."""

import dataclasses

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.vision.backends import installed_backends
from imgpipeline.vision.decoders import Candidates, decode_outputs, select_boxes
from imgpipeline.vision.detector import load_detector, self_test
from imgpipeline.vision.own_model import labels_in_metadata, plausible_layouts, read_signature
from imgpipeline.vision.preprocess import make_blob
from imgpipeline.vision.registry import find_model
from imgpipeline_tests.examples import examples
from imgpipeline_tests.vision.pictures import detailed_picture
from imgpipeline_tests.vision.plain_decoders import read_plainly
from imgpipeline_tests.vision.tiny_networks import write_network

SIZE = (64, 32)
CELLS = 8 * 4 + 4 * 2 + 2 * 1


def yolox_output(classes: int = 2) -> np.ndarray:
    return np.zeros((1, CELLS, 5 + classes), np.float32)


def test_yolov4_heads_may_come_apart_and_without_a_batch():
    heads = [np.array([[0.5, 0.5, 0.1, 0.1, 1, c == 0, c == 1]], np.float32) for c in (0, 1)]
    assert decode_outputs("yolov4", heads, SIZE, 0.5).class_ids.tolist() == [0, 1]


def test_yolov4_may_give_corners_and_scores():
    corners = np.array([[[[0.25, 0.5, 0.5, 1.0]], [[0, 0, 1, 1]]]], np.float32)
    scores = np.array([[[0.1, 0.7], [0.2, 0.3]]], np.float32)
    found = decode_outputs("yolov4", [corners, scores], SIZE, 0.5)
    np.testing.assert_allclose(found.boxes_xyxy, [[16, 16, 32, 32]])
    assert found.class_ids.tolist() == [1]


@pytest.mark.parametrize("objectness_and_class", [[0.5, 1.0], [1.0, 0.5]])
@pytest.mark.parametrize("decoder", ["yolox", "yolov4"])
def test_the_threshold_itself_is_not_enough(decoder, objectness_and_class):
    output = yolox_output()
    output[0, 3, 4:6] = objectness_and_class
    assert len(decode_outputs(decoder, [output], SIZE, 0.5).scores) == 0
    assert len(decode_outputs(decoder, [output], SIZE, np.nextafter(np.float32(0.5), np.float32(0))).scores) == 1


@pytest.mark.parametrize("decoder", ["yolox", "yolov4"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_output_that_is_not_finite_blames_the_model(decoder, value):
    output = yolox_output()
    output[0, 0, 5] = value
    with pytest.raises(PermanentError, match="NaN or infinity"):
        decode_outputs(decoder, [output], SIZE, 0.5)


@pytest.mark.parametrize(
    ("decoder", "shapes"),
    [
        ("yolox", [(1, CELLS - 1, 7)]),
        ("yolox", [(1, CELLS, 5)]),
        ("yolox", [(1, CELLS, 7), (1, CELLS, 7)]),
        ("yolov4", [(1, 10, 5)]),
        ("yolov4", [(1, 10, 7), (1, 10, 8)]),
        ("yolov4", [(1, 3, 8, 8, 7)]),
        ("yolov4", [(1, 10, 1, 4), (1, 9, 7)]),
    ],
)
def test_an_output_of_another_layout_blames_the_setting(decoder, shapes):
    with pytest.raises(PermanentError, match="IMGPIPELINE_MODEL_DECODER"):
        decode_outputs(decoder, [np.zeros(shape, np.float32) for shape in shapes], SIZE, 0.5)


def candidates(boxes, scores, class_ids) -> Candidates:
    return Candidates(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(class_ids, np.int64)
    )


def test_of_two_boxes_that_overlap_the_better_one_stays():
    both = candidates([[0, 0, 10, 10], [0, 0, 10, 9]], [0.6, 0.9], [0, 0])
    assert select_boxes("yolox", both, 0.4, per_class=False).tolist() == [1]


def test_an_overlap_of_exactly_the_threshold_is_allowed():
    both = candidates([[0, 0, 10, 10], [0, 0, 10, 5]], [0.9, 0.6], [0, 0])
    assert select_boxes("yolox", both, 0.5, per_class=False).tolist() == [0, 1]
    assert select_boxes("yolox", both, 0.49, per_class=False).tolist() == [0]


def test_classes_compete_together_unless_told_otherwise():
    both = candidates([[0, 0, 10, 10], [0, 0, 10, 10]], [0.9, 0.6], [0, 1])
    assert select_boxes("yolox", both, 0.4, per_class=False).tolist() == [0]
    assert select_boxes("yolox", both, 0.4, per_class=True).tolist() == [0, 1]


def test_a_dropped_box_drops_no_other():
    chain = candidates([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], [0.9, 0.8, 0.7], [0, 0, 0])
    assert select_boxes("yolox", chain, 0.4, per_class=False).tolist() == [0, 2]


def test_nothing_gives_nothing():
    assert select_boxes("yolox", candidates([], [], []), 0.4, per_class=True).tolist() == []


LABELS = ("pedestrian", "people", "van")
VISDRONE = ("pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle", "bus", "motor")
LAYOUTS = ("yolox", "yolox-decoded", "yolov4", "yolov5", "yolov8", "end-to-end", "detr")


def outputs_of(layout: str, rng: np.random.Generator, classes: int = 3) -> dict[str, np.ndarray]:
    """Random outputs of a layout: some boxes score high, most do not."""
    scores = rng.uniform(0, 1, (CELLS * 3, classes)).astype(np.float32)
    objectness = (rng.uniform(0, 1, (CELLS * 3, 1)) ** 2).astype(np.float32)
    centre, extent = rng.uniform(0, SIZE, (CELLS * 3, 2)), rng.uniform(1, 30, (CELLS * 3, 2))
    rows = np.hstack([centre, extent, objectness, scores]).astype(np.float32)
    offsets = np.hstack([rng.uniform(-1, 2, (CELLS, 4)), rows[:CELLS, 4:]]).astype(np.float32)
    fractions = rows / np.array([*SIZE, *SIZE, *[1] * (classes + 1)], np.float32)
    of_anchors = {
        "yolox": {"output": offsets[None]},
        "yolox-decoded": {"output": rows[None, :CELLS]},
        "yolov4": {"coarse": fractions[None, : CELLS // 2], "fine": fractions[None, CELLS // 2 :]},
        "yolov5": {"output0": rows[None]},
        "yolov8": {"output0": np.ascontiguousarray(np.delete(rows[:CELLS], 4, axis=1).T[None])},
    }
    if layout in of_anchors:
        return of_anchors[layout]
    corners = np.hstack([centre - extent / 2, centre + extent / 2])[:25].astype(np.float32)
    best, labels = objectness[:25, 0], rng.integers(0, classes, 25)
    if layout == "end-to-end":
        return {"output0": np.hstack([corners, best[:, None], labels[:, None]]).astype(np.float32)[None]}
    return {"labels": labels[None], "boxes": corners[None], "scores": best[None]}


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.5]), st.integers(1, 5), st.sampled_from(LAYOUTS))
@settings(max_examples=examples(100), deadline=None)
def test_a_decoder_reads_what_a_plain_reading_gives(seed, threshold, classes, layout):
    outputs = list(outputs_of(layout, np.random.default_rng(seed), classes).values())
    found = decode_outputs(layout, [np.asarray(o, np.float32) for o in outputs], SIZE, threshold)
    expected = read_plainly(layout, [output.tolist() for output in outputs], SIZE, threshold)
    assert found.class_ids.tolist() == [box[5] for box in expected]
    np.testing.assert_allclose(found.scores, [box[4] for box in expected], rtol=1e-5)
    np.testing.assert_allclose(found.boxes_xyxy, np.reshape([b[:4] for b in expected], (-1, 4)), rtol=1e-4, atol=1e-3)


@pytest.fixture
def write(tmp_path):
    """Write a random network of a layout: `write(layout, classes=3)`."""

    def written(layout: str, classes: int = 3, **options: object):
        outputs = outputs_of(layout, np.random.default_rng(7), classes)
        options.setdefault("sizes_input", layout == "detr")
        options.setdefault("with_exp", layout == "yolox-decoded")
        return write_network(tmp_path / f"{layout}.onnx", outputs, size=SIZE, **options), outputs

    return written


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_a_network_is_detected_and_every_backend_finds_the_boxes_of_a_plain_reading(layout, write):
    """The picture has the size of the input, so boxes stay where they are."""
    path, outputs = write(layout)
    expected = read_plainly(layout, [output.tolist() for output in outputs.values()], SIZE, 0.3)
    inside = [box for box in map(clipped, expected) if box[0] < box[2] and box[1] < box[3]]
    expected = sorted(inside, key=lambda box: -box[4])
    for backend in installed_backends():
        detector = load_detector(str(path), labels=LABELS, backend=backend, confidence_threshold=0.3, nms_threshold=1.0)
        assert detector.spec.decoder == layout
        assert detector.spec.decoder_reason
        assert (detector.spec.input_width, detector.spec.input_height) == SIZE
        found = detector.detect(np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
        assert len(found) == len(expected) > 3
        for detection, (left, top, right, bottom, score, class_id) in zip(found, expected, strict=True):
            assert (detection.label, detection.class_id) == (LABELS[class_id], class_id)
            assert detection.confidence == pytest.approx(score, rel=1e-4)
            assert detection.box_xywh == pytest.approx((left, top, right - left, bottom - top), abs=1e-2)
        self_test(detector)


def clipped(box):
    left, top, right, bottom = (min(max(v, 0), limit) for v, limit in zip(box[:4], SIZE * 2, strict=True))
    return left, top, right, bottom, *box[4:]


@pytest.mark.parametrize("layout", ["end-to-end", "detr"])
def test_boxes_that_a_network_has_chosen_are_not_suppressed(layout, tmp_path):
    """Two people who stand close together: the network has told them apart already."""
    boxes, scores = np.array([[[4, 4, 24, 24], [5, 5, 25, 25]]], np.float32), np.array([[0.9, 0.8]], np.float32)
    outputs = {"boxes": boxes, "labels": np.zeros((1, 2), np.int64), "scores": scores}
    if layout == "end-to-end":
        outputs = {"output0": np.dstack([boxes, scores[..., None], np.zeros((1, 2, 1))]).astype(np.float32)}
    path = write_network(tmp_path / "close.onnx", outputs, size=SIZE)
    detector = load_detector(str(path), labels=["person"], nms_threshold=0.4)
    assert [d.confidence for d in detector.detect(detailed_picture())] == pytest.approx([0.9, 0.8])


def test_a_deployed_detr_returns_boxes_in_pixels_of_the_picture(tmp_path):
    """Its boxes are multiplied by the second input, which is width and height of the network's own input."""
    outputs = {
        "scores": np.array([[0.9]], np.float32),
        "labels": np.array([[1]]),
        "boxes": np.array([[[0.25, 0.5, 0.75, 1.0]]], np.float32),
    }
    path = write_network(tmp_path / "detr.onnx", outputs, size=SIZE, sizes_input=True, scale_boxes=True)
    (found,) = load_detector(str(path), labels=LABELS).detect(np.zeros((100, 400, 3), np.uint8))
    assert found.label == "people"
    assert found.box_xywh == pytest.approx((100, 50, 200, 50))


def test_a_yolov8_export_with_visdrones_labels(write):
    """[1, 4 + classes, n] without objectness, and the ten labels from the file's metadata."""
    names = str(dict(enumerate(VISDRONE)))
    path, outputs = write("yolov8", 10, metadata={"names": names, "task": "detect", "license": "AGPL-3.0"})
    spec = find_model(str(path))
    assert (spec.decoder, spec.labels, spec.licence) == ("yolov8", VISDRONE, "AGPL-3.0")
    assert (spec.preprocessing.resize, spec.preprocessing.channels) == ("letterbox-centred", "RGB")
    assert outputs["output0"].shape == (1, 14, CELLS)
    found = load_detector(str(path), confidence_threshold=0.7).detect(detailed_picture())
    assert {"car", "van", "pedestrian"} & {d.label for d in found}
    assert {d.label for d in found} <= set(VISDRONE)


@pytest.mark.parametrize("task", ["segment", "pose", "classify"])
def test_a_network_for_another_task_is_refused(task, write):
    path, _ = write("yolov8", metadata={"task": task})
    with pytest.raises(ConfigurationError, match=f"made for the task '{task}'"):
        find_model(str(path), None, LABELS)


def test_an_unknown_layout_is_refused_with_its_shapes(tmp_path):
    path = write_network(tmp_path / "odd.onnx", {"output": np.zeros((1, 3, 5), np.float32)}, size=SIZE)
    with pytest.raises(ConfigurationError, match=r"no known layout: its outputs are \[1, 3, 5\].*MODEL_DECODER"):
        find_model(str(path))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, CELLS, 85), ["yolox", "yolox-decoded"]),
        ((1, CELLS, 6), ["yolox", "yolox-decoded"]),
        ((1, 3 * CELLS, 85), ["yolov5", "yolov4"]),
        ((1, 84, CELLS), ["yolov8"]),
        ((1, 300, 6), ["end-to-end"]),
        ((1, 300, 7), []),
    ],
    ids=["yolox", "one class", "yolov5", "yolov8", "end-to-end", "none"],
)
def test_layouts_that_share_a_shape_are_all_listed(shape, expected, tmp_path):
    path = write_network(tmp_path / "m.onnx", {"output": np.zeros(shape, np.float32)}, size=SIZE)
    assert [one.decoder for one in plausible_layouts(read_signature(path))] == expected


@pytest.mark.parametrize(
    ("width", "height", "shape", "expected"),
    [
        (640, 640, (1, 25200, 85), "yolov5"),
        (1280, 1280, (1, 102000, 85), "yolov5"),
        (640, 640, (1, 84, 8400), "yolov8"),
        (640, 480, (1, 84, 6300), "yolov8"),
        (416, 416, (1, 3549, 85), "yolox"),
        (640, 640, (1, 300, 6), "end-to-end"),
        (416, 416, (1, 2535, 85), "yolov5"),
    ],
    ids=["v5", "v5 P6", "v8", "v8 wide", "x nano", "v10", "tiny anchors"],
)
def test_published_models_are_recognized_by_their_shapes(width, height, shape, expected, tmp_path):
    output = np.zeros(shape, np.float32)
    path = write_network(tmp_path / "m.onnx", {"output": output}, size=(width, height))
    assert plausible_layouts(read_signature(path))[0].decoder == expected


def test_the_demos_model_by_its_path_is_the_demos_model(tmp_path):
    """It was written by the same program as converted Darknet networks, and has another layout."""
    demo = find_model("demo")
    own = tmp_path / "own.onnx"
    own.write_bytes(demo.path.read_bytes())
    spec = find_model(str(own), None, demo.labels)
    assert (spec.decoder, spec.preprocessing) == (demo.decoder, demo.preprocessing)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{0: 'a', 1: 'b'}", ("a", "b")),
        ("{1: 'b', 0: 'a'}", ("a", "b")),
        ("['a', 'b']", ("a", "b")),
        ("{0: 'a', 2: 'b'}", None),
        ("{'x': 'a'}", None),
        ("", None),
        ("__import__('os')", None),
        ("7", None),
    ],
    ids=["dict", "unordered", "list", "hole", "no number", "none", "code", "number"],
)
def test_labels_are_read_from_metadata(text, names, write):
    path, _ = write("yolov8", metadata={"names": text})
    assert labels_in_metadata(read_signature(path)) == names


@given(st.text(max_size=60))
@settings(max_examples=examples(60))
def test_metadata_of_any_form_gives_labels_or_none(text):
    names = labels_in_metadata(dataclasses.replace(read_signature(find_model("demo").path), metadata={"names": text}))
    assert names is None or all(isinstance(name, str) for name in names)


def test_metadata_that_does_not_fit_the_classes_is_refused(write):
    path, _ = write("yolov8", metadata={"names": "['only one']"})
    with pytest.raises(ConfigurationError, match="has 3 classes, but there are 1 labels: those in its metadata"):
        find_model(str(path))


def test_a_half_precision_input_is_refused_with_the_way_out(write):
    path, _ = write("yolov8")
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(model, path)
    with pytest.raises(ConfigurationError, match="export the model again without half precision"):
        find_model(str(path), None, LABELS)


@given(st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=examples(60), deadline=None)
def test_a_centred_letterbox_is_that_of_ultralytics(width, height):
    """As `LetterBox(auto=False)` computes it: rounded size, rest halved, the smaller half left and above."""
    spec = dataclasses.replace(centred(), input_width=96, input_height=64)
    pixels = detailed_picture(width, height)
    ratio = min(96 / width, 64 / height)
    new = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    left, top = round((96 - new[0]) / 2 - 0.1), round((64 - new[1]) / 2 - 0.1)
    canvas = np.full((64, 96, 3), 114, np.uint8)
    canvas[top : top + new[1], left : left + new[0]] = cv2.resize(pixels, new, interpolation=cv2.INTER_LINEAR)
    expected = canvas[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32) * np.float32(1 / 255)
    blob, placement = make_blob(pixels, spec)
    np.testing.assert_array_equal(blob, expected)
    around = np.array([[left, top, left + new[0], top + new[1]]], np.float32)
    np.testing.assert_allclose(placement.to_picture(around), [[0, 0, width, height]], rtol=1e-5)


def test_mean_and_deviation_are_those_of_torchvision():
    """(value / 255 - mean) / std for each channel, RGB, over a picture that was stretched."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    rules = dataclasses.replace(centred().preprocessing, resize="stretch", mean=mean, std=std)
    spec = dataclasses.replace(centred(), input_width=96, input_height=64, preprocessing=rules)
    pixels = detailed_picture(96, 64)
    expected = ((pixels[..., ::-1] / 255 - mean) / std).transpose(2, 0, 1)[None]
    np.testing.assert_allclose(make_blob(pixels, spec)[0], expected, rtol=1e-4, atol=1e-5)


def centred():
    spec = find_model("demo")
    rules = dataclasses.replace(spec.preprocessing, resize="letterbox-centred", channels="RGB", scale=1 / 255)
    return dataclasses.replace(spec, preprocessing=rules)
