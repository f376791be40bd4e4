"""Finds how much of a model can be quantized while it still finds what it finds in 32-bit floats."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from imgpipeline.errors import PermanentError
from imgpipeline.vision.agreement import Agreement, measure_agreement
from imgpipeline.vision.decode import DecodedImage
from imgpipeline.vision.detector import Detector
from imgpipeline.vision.preprocess import make_blob
from imgpipeline.vision.quantization.graph import find_convolutions, quantize, read_graph
from imgpipeline.vision.quantization.measure import Progress, measure_ranges, rank_by_sensitivity

FEWEST_IMAGES: Final = 8
"""With fewer, no part of them would say anything."""
_RANKED_ON: Final = 4
"""Images that each layer's sensitivity is measured on."""
_FLOAT_SHARES: Final = (0.0, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8)
"""Parts of the layers that are tried in 32-bit floats, the most sensitive first."""

Stage = Callable[[str], Progress]
"""Returns what is told of the progress of a stage."""


@dataclass(frozen=True, slots=True)
class QuantizedModel:
    """A model in 8-bit integers, and what it was measured by."""

    content: bytes
    """The ONNX file."""
    convolutions: int
    """How many the model has."""
    kept_float: int
    """How many of them stayed in 32-bit floats."""
    calibrated_on: int
    """Images that the ranges are from."""
    held_out: Agreement
    """The report against 32-bit floats, on images that had no part in making it."""


def quantize_model(
    content: bytes,
    images: Sequence[DecodedImage],
    load: Callable[[bytes], Detector],
    *,
    goal_f1: float,
    stage: Stage,
) -> QuantizedModel:
    """Quantizes a model.

    Half of the images calibrate. On these and on a quarter more, layers are chosen: the most sensitive ones stay in
    32-bit floats until F1 reaches the goal. The last quarter is held out for the report.

    Args:
        content: The ONNX file, in 32-bit floats.
        images: In their order; neighbours are taken to be alike.
        load: Makes a detector out of an ONNX file.
        goal_f1: F1 against 32-bit floats that must be reached, in [0, 1].
        stage: Told which stage begins.

    Raises:
        PermanentError: There are too few images, the model has no layers to quantize, or the goal is out of reach.
    """
    if len(images) < FEWEST_IMAGES:
        raise PermanentError(
            f"{len(images)} images are too few to calibrate a model; at least {FEWEST_IMAGES} are needed, and 200 "
            "are better.",
            next_step="give more images of your own cameras with --images",
        )
    model = read_graph(content)
    convolutions = find_convolutions(model)
    if not convolutions:
        raise PermanentError(
            "The model has no convolution with constant 32-bit weights, so there is nothing to quantize.",
            next_step="choose a model in 32-bit floats that is not quantized yet",
        )
    exact = load(content)
    calibrating = [*images[0::4], *images[2::4]]
    blobs = [make_blob(image, exact.spec)[0] for image in calibrating]
    ranges = measure_ranges(model, convolutions, blobs, stage("Calibrating"))
    few = calibrating[:: math.ceil(len(calibrating) / _RANKED_ON)]
    ranking = rank_by_sensitivity(
        lambda chosen: load(quantize(model, chosen, ranges)), convolutions, few, stage("Measuring layers")
    )

    def make(kept: int) -> bytes:
        return quantize(model, set(ranking[kept:]), ranges)

    kept = _choose(exact, [*calibrating, *images[1::4]], lambda kept: load(make(kept)), len(ranking), goal_f1, stage)
    found = load(made := make(kept))
    report = measure_agreement((exact.detect(image), found.detect(image)) for image in images[3::4])
    return QuantizedModel(made, len(convolutions), kept, len(calibrating), report)


def _choose(
    exact: Detector,
    images: Sequence[DecodedImage],
    load: Callable[[int], Detector],
    layers: int,
    goal_f1: float,
    stage: Stage,
) -> int:
    """Returns how many of the layers have to stay in 32-bit floats; `load` makes a detector with so many."""
    progress = stage("Choosing layers")
    expected = [exact.detect(image) for image in images]
    best = 0.0
    for tried, share in enumerate(_FLOAT_SHARES, 1):
        kept = math.ceil(share * layers)
        agreement = measure_agreement(zip(expected, map(load(kept).detect, images), strict=True))
        progress(tried, len(_FLOAT_SHARES))
        if agreement.total.f1 >= goal_f1:
            return kept
        best = max(best, agreement.total.f1)
    raise PermanentError(
        f"With up to {_FLOAT_SHARES[-1]:.0%} of the layers in 32-bit floats, F1 against them is {best:.4f} at best; "
        f"the goal is {goal_f1}.",
        next_step="give more images of your own cameras, or accept less with --goal",
    )
