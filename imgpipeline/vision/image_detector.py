"""Decodes an encoded image and detects objects in it, with the limits of the settings."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

from imgpipeline.contracts.capture import Gated
from imgpipeline.contracts.detection import Detection
from imgpipeline.objectstore.parallel import WeightedLimit
from imgpipeline.settings import Settings
from imgpipeline.vision.configured import detect_workers
from imgpipeline.vision.decode import DecodedImage, ImageLimits, decode_image
from imgpipeline.vision.detector import Detector
from imgpipeline.vision.gate import Quality, measure_quality
from imgpipeline.vision.header import ImageHeader, read_header

COMMON_PIXELS = 3840 * 2160
"""Images up to this size, which is common for cameras, are decoded by all workers at once."""

Decide = Callable[[DecodedImage, Quality], Gated | None]
"""Returns why a decoded image is left out; None if it is not."""
Step = Callable[[Literal["decode", "infer"]], AbstractContextManager[object]]
"""Returns a context around a step, to time it."""


@dataclass(frozen=True, slots=True)
class DetectedImage:
    """The detections in one image, and its measurements; width and height are those of the upright image in pixels."""

    width: int
    height: int
    orientation: int
    """The EXIF orientation that was applied, 1 (none) to 8."""
    quality: Quality
    detections: tuple[Detection, ...]
    """The most confident first; boxes in pixels of the upright image."""
    gated: Gated | None = None
    """Why it was not detected; None if it was."""
    weak_detections: tuple[Detection, ...] = ()
    """Those at or below the detector's confidence threshold, the strongest first; empty unless requested."""


class ImageDetector:
    """Decodes images and finds objects in them. May be called from many threads.

    The number of pixels that are decoded at a time is limited to one image of the common size per worker, or to one
    image of the largest accepted size.
    """

    def __init__(self, settings: Settings, detector: Detector, *, weak_above: float | None = None) -> None:
        """Takes limits, workers and reduced decoding from the settings; keeps weak detections above `weak_above`."""
        self.detector = detector
        self._weak_above = weak_above
        self._limits = ImageLimits(settings.max_image_pixels, settings.max_image_bytes)
        self._reduced_for = detector.network_input if settings.reduced_decoding else None
        self._pixels = WeightedLimit(max(settings.max_image_pixels, detect_workers(settings) * COMMON_PIXELS))

    def detect(
        self,
        data: bytes,
        header: ImageHeader | None = None,
        *,
        step: Step = lambda _: nullcontext(),
        decide: Decide | None = None,
    ) -> DetectedImage:
        """Finds the objects in an image.

        Args:
            data: The encoded image.
            header: Its header, if it was already read.
            decide: See `Decide`; by default, no image is left out.

        Raises:
            BadInputError: `EMPTY_OBJECT`, `TOO_LARGE`, `IMAGE_TOO_LARGE` or `DECODE_FAILED`.
            TransientError: There is not enough memory.
            PermanentError: The detector does not work.
        """
        header = header or read_header(data)
        with self._pixels.share(header.width * header.height):
            with step("decode"):
                image = decode_image(data, self._limits, header=header, reduced_for=self._reduced_for)
                quality = measure_quality(image)
            gated = decide(image, quality) if decide else None
            if gated:
                return DetectedImage(image.width, image.height, image.orientation, quality, (), gated)
            with step("infer"):
                found, weak = self._detect(image)
        return DetectedImage(
            image.width, image.height, image.orientation, quality, tuple(found), weak_detections=tuple(weak)
        )

    def _detect(self, image: DecodedImage) -> tuple[list[Detection], list[Detection]]:
        if self._weak_above is None:
            return self.detector.detect(image), []
        return self.detector.detect_with_weak(image, self._weak_above)
