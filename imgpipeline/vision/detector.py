"""A loaded model that finds objects in images: preprocessing, inference, decoding of its output, suppression.

The same image always gives the same detections, every box is inside the image, and a damaged model file is refused
before it is used. A `DetectorGroup` runs several models on each image, each for its own labels: one for cars, another
for people.
"""

import base64
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from imgpipeline.contracts.detection import DecoderName, Detection, DetectorUse
from imgpipeline.errors import BadInputError, ConfigurationError, PermanentError
from imgpipeline.vision.backends import InferenceBackend, open_backend
from imgpipeline.vision.decode import DecodedImage, ImageLimits, Pixels, decode_image
from imgpipeline.vision.decoders import Candidates, Floats, Ints, decode_outputs, detr_order, select_boxes
from imgpipeline.vision.model import ModelSpec, NetworkInput
from imgpipeline.vision.model_files import read_verified, runnable
from imgpipeline.vision.precision import Precision, choose_precision
from imgpipeline.vision.preprocess import Placement, make_blob
from imgpipeline.vision.registry import find_model

_KNOWN_JPEG: Final = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAoHBwgHBgoICAgLCgoLDhgQDg0NDh0VFhEYIx8lJCIfIiEmKzcvJik0KSEiMEEx"
    "NDk7Pj4+JS5ESUM8SDc9Pjv/2wBDAQoLCw4NDhwQEBw7KCIoOzs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7"
    "Ozs7Ozs7Ozs7Ozs7Ozv/wAARCAAQABgDASIAAhEBAxEB/8QAFgABAQEAAAAAAAAAAAAAAAAABQAG/8QAGBABAAMBAAAAAAAA"
    "AAAAAAAAAAVDgsH/xAAWAQEBAQAAAAAAAAAAAAAAAAAGAQf/xAAdEQABAwUBAAAAAAAAAAAAAAAAAQWBAgM0NbGy/9oADAMB"
    "AAIRAxEAPwDHFIW7PRZSFuz0kfNfcj0hGjNoniiiSZwOz//Z"
)
"""24x16 pixels: the left half blue, the right half red."""
_KNOWN_BGR: Final = ((200, 60, 30), (40, 80, 220))


class Detector:
    """One model in one backend.

    Guarantees:
        `detect` may be called from several threads at once. Each thread keeps the network's input for its next picture.

    Attributes:
        model_sha256: Hash of the ONNX file that was loaded, 64 lower-case hex digits.
        confidence_threshold: Detections score strictly above it.
        nms_threshold: Of two boxes with a greater IoU, the weaker is dropped.
        nms_per_class: Whether only boxes with the same label compete.
        integer_boxes: Whether boxes are truncated to whole pixels before suppression, as in the classic OpenCV recipe.
        chosen_because: Why backend and precision were chosen, for `doctor`; empty if the settings name them.
    """

    def __init__(
        self,
        spec: ModelSpec,
        model_sha256: str,
        backend: InferenceBackend,
        *,
        confidence_threshold: float | None = None,
        nms_threshold: float | None = None,
        nms_per_class: bool | None = None,
        precision: Precision = "fp32",
        integer_boxes: bool = False,
    ) -> None:
        self.spec = spec
        self.model_name = spec.name
        self.model_sha256 = model_sha256
        self.backend = backend
        self.confidence_threshold = spec.confidence_threshold if confidence_threshold is None else confidence_threshold
        self.nms_threshold = spec.nms_threshold if nms_threshold is None else nms_threshold
        self.nms_per_class = spec.nms_per_class if nms_per_class is None else nms_per_class
        self.precision = precision
        self.integer_boxes = integer_boxes
        self.chosen_because = ""
        self._kept = threading.local()

    @property
    def use(self) -> DetectorUse:
        """What frames record about it; the precision is left out for 32-bit floats."""
        precision = None if self.precision == "fp32" else self.precision
        return DetectorUse(self.model_name, self.model_sha256, precision, self.confidence_threshold, self.nms_threshold)

    @property
    def uses(self) -> tuple[DetectorUse, ...]:
        """The detectors that frames name in addition to their `model_used`."""
        return () if self.use.precision is None else (self.use,)

    @property
    def members(self) -> tuple["Detector", ...]:
        """The detectors that it consists of: only itself."""
        return (self,)

    @property
    def network_input(self) -> NetworkInput:
        """The input that `decode_image` reduces images for."""
        return self.spec.network_input

    @property
    def backend_name(self) -> str:
        """Name of the chosen backend, never `auto`."""
        return self.backend.name

    def detect(self, picture: Pixels | DecodedImage) -> list[Detection]:
        """Finds the objects in a picture.

        Args:
            picture: uint8 [height, width, 3], BGR, upright; or a decoded image, which may be reduced.

        Returns:
            The detections, the most confident first. Boxes are in pixels of the picture; for a reduced one, in pixels
            of the original.

        Raises:
            PermanentError: The network cannot be run, or its output is not finite or does not have the declared layout.
        """
        return self.detect_with_weak(picture, self.confidence_threshold)[0]

    def detect_with_weak(
        self, picture: Pixels | DecodedImage, weak_above: float
    ) -> tuple[list[Detection], list[Detection]]:
        """Finds the objects in a picture, including those at or below the confidence threshold.

        Args:
            picture: As for `detect`.
            weak_above: Weak detections score strictly above it.

        Returns:
            The detections of `detect`, and the weak detections, the most confident first. A weak box never suppresses
            a stronger one, so the first list does not depend on `weak_above`.

        Raises:
            PermanentError: As for `detect`.
        """
        blob, placement = make_blob(picture, self.spec, getattr(self._kept, "blob", None))
        self._kept.blob = blob
        found = self.decode(self.backend.infer(blob), min(weak_above, self.confidence_threshold))
        if self.integer_boxes:
            found = replace(found, boxes_xyxy=placement.to_whole_pixels(found.boxes_xyxy))
            placement = Placement((1.0, 1.0), placement.picture_size)
        kept = select_boxes(self.spec.decoder, found, self.nms_threshold, per_class=self.nms_per_class)
        is_strong = found.scores[kept] > self.confidence_threshold
        return (
            self._detections(found, kept[is_strong], placement),
            self._detections(found, kept[~is_strong], placement),
        )

    def decode(self, outputs: list[Floats], threshold: float) -> Candidates:
        """Returns the boxes above a threshold in the outputs of `backend.infer`, before suppression.

        Raises:
            PermanentError: The outputs are not finite, or do not have the declared layout.
        """
        if self.spec.decoder == "detr":
            outputs = [outputs[index] for index in detr_order(self.backend.output_names)]
        return decode_outputs(self.spec.decoder, outputs, (self.spec.input_width, self.spec.input_height), threshold)

    def _detections(self, found: Candidates, kept: Ints, placement: Placement) -> list[Detection]:
        boxes_xyxy = placement.to_picture(found.boxes_xyxy[kept])
        detections = []
        for (left, top, right, bottom), index in zip(boxes_xyxy.tolist(), kept.tolist(), strict=True):
            if right <= left or bottom <= top:
                continue
            class_id = int(found.class_ids[index])
            if class_id >= len(self.spec.labels):
                raise self._unknown_class(class_id)
            box_xywh = (left, top, right - left, bottom - top)
            detections.append(Detection(self.spec.labels[class_id], class_id, float(found.scores[index]), box_xywh))
        return detections

    def _unknown_class(self, class_id: int) -> PermanentError:
        return PermanentError(
            f"The model {self.model_name!r} found class {class_id}, but has only {len(self.spec.labels)} labels.",
            next_step="set IMGPIPELINE_MODEL_LABELS to a file with a label for each class of the model",
        )


@dataclass(frozen=True, slots=True)
class Member:
    """One detector of a group."""

    detector: Detector
    labels: frozenset[str]
    """Labels that it detects; its other detections are dropped."""


class DetectorGroup(Detector):
    """Several detectors that are used like one.

    Each detector suppresses only its own boxes, and each detection has the number of the detector that found it.
    Attributes such as `model_name` describe the first detector; `uses` names all of them.

    Guarantees:
        `detect` may be called from several threads at once.
    """

    def __init__(self, group: Sequence[Member]) -> None:
        """Takes the detectors in order.

        Raises:
            ConfigurationError: A model does not have one of its labels, or two detectors share a label.
        """
        _check_labels(group)
        first = group[0].detector
        super().__init__(
            first.spec,
            first.model_sha256,
            first.backend,
            confidence_threshold=first.confidence_threshold,
            nms_threshold=first.nms_threshold,
            nms_per_class=first.nms_per_class,
            precision=first.precision,
            integer_boxes=first.integer_boxes,
        )
        self._group = tuple(group)

    @property
    def members(self) -> tuple[Detector, ...]:
        """The detectors."""
        return tuple(member.detector for member in self._group)

    @property
    def uses(self) -> tuple[DetectorUse, ...]:
        """What frames record about all of them."""
        return tuple(detector.use for detector in self.members)

    @property
    def network_input(self) -> NetworkInput:
        """The smallest size at which no network gets an enlarged image."""
        inputs = [detector.network_input for detector in self.members]
        return NetworkInput(max(one.width for one in inputs), max(one.height for one in inputs), "stretch")

    def detect_with_weak(
        self, picture: Pixels | DecodedImage, weak_above: float
    ) -> tuple[list[Detection], list[Detection]]:
        """Finds the objects with the labels of each detector; otherwise as `Detector.detect_with_weak`."""
        strong: list[Detection] = []
        weak: list[Detection] = []
        for number, member in enumerate(self._group):
            found = member.detector.detect_with_weak(picture, weak_above)
            for all_of_it, part in zip((strong, weak), found, strict=True):
                all_of_it += [replace(one, detector=number) for one in part if one.label in member.labels]
        return _strongest_first(strong), _strongest_first(weak)


def _strongest_first(detections: Iterable[Detection]) -> list[Detection]:
    return sorted(detections, key=lambda one: -one.confidence)


def _check_labels(group: Sequence[Member]) -> None:
    owner: dict[str, str] = {}
    for member in group:
        name, known = member.detector.model_name, member.detector.spec.labels
        for label in sorted(member.labels):
            if label not in known:
                shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
                raise ConfigurationError(
                    f"IMGPIPELINE_DETECTORS asks {name!r} for {label!r}, but its labels are {shown}.",
                    next_step="correct IMGPIPELINE_DETECTORS",
                )
            if label in owner:
                raise ConfigurationError(
                    f"Both {owner[label]!r} and {name!r} detect {label!r}, so each object would count twice.",
                    next_step="name the labels of each detector in IMGPIPELINE_DETECTORS",
                )
            owner[label] = name


def load_detector(  # noqa: PLR0913 - one argument a setting, all by name
    model: str,
    *,
    backend: str = "auto",
    confidence_threshold: float | None = None,
    nms_threshold: float | None = None,
    nms_per_class: bool | None = None,
    threads: int | None = None,
    precision: Precision = "fp32",
    integer_boxes: bool = False,
    decoder: DecoderName | None = None,
    labels: Sequence[str] | Path | None = None,
    model_dir: Path | None = None,
) -> Detector:
    """Verifies a model and loads it into a backend.

    The model, `decoder`, `labels` and `model_dir` are described at `find_model`, backend and threads at `open_backend`,
    the rest at `Detector`. None: as registered. The precision `fp32` leaves a quantized model unchanged.

    Raises:
        ConfigurationError: There is no such model, file or backend, or it cannot compute in `precision`.
        PermanentError: The file is damaged, or the backend cannot read it.
    """
    spec = find_model(model, decoder, labels, model_dir=model_dir)
    content, sha256 = read_verified(spec)
    content = runnable(spec, content)
    computes_in = choose_precision(precision, content, spec.name)
    return Detector(
        spec,
        sha256,
        open_backend(backend, content, threads=threads, precision=computes_in),
        confidence_threshold=confidence_threshold,
        nms_threshold=nms_threshold,
        nms_per_class=nms_per_class,
        precision=computes_in,
        integer_boxes=integer_boxes,
    )


def self_test(detector: Detector) -> None:
    """Checks that decoder and detector still work, before good frames are recorded as bad.

    Decodes a known picture, runs the network on it, and reads the model's file again.

    Raises:
        PermanentError: One of these steps fails, or the model's file has changed since it was loaded.
    """
    try:
        pixels = decode_image(_KNOWN_JPEG, ImageLimits(max_pixels=1000, max_bytes=10_000)).pixels
    except BadInputError as error:
        raise _test_failed(f"a good JPEG cannot be decoded: {error.message}") from error
    seen = pixels[8, [4, 20]].astype(int)
    if np.abs(seen - np.array(_KNOWN_BGR)).max() > 20:
        raise _test_failed(f"a known JPEG decodes to {seen.tolist()}, expected is about {_KNOWN_BGR}")
    for member in detector.members:
        _test_network(member, pixels)


def _test_network(detector: Detector, pixels: Pixels) -> None:
    _, sha256 = read_verified(detector.spec)
    if sha256 != detector.model_sha256:
        raise _test_failed(f"{detector.spec.path} was changed since it was loaded (sha256 {sha256})")
    blob, _ = make_blob(np.tile(pixels, (20, 20, 1)), detector.spec)
    outputs = detector.backend.infer(blob)
    detector.decode(outputs, detector.confidence_threshold)
    if not any(np.ptp(output) > 0 for output in outputs):
        raise _test_failed("the network returns the same number everywhere")


def _test_failed(what: str) -> PermanentError:
    return PermanentError(f"The self-test of the detector failed: {what}.", next_step="imgpipeline doctor")
