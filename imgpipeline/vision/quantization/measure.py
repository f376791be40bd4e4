"""Measures what quantizing needs to know of a model: the ranges of its tensors, and how sensitive each layer is."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import onnx

from imgpipeline.vision.backends import open_backend
from imgpipeline.vision.decode import DecodedImage
from imgpipeline.vision.decoders import Floats
from imgpipeline.vision.detector import Detector
from imgpipeline.vision.quantization.graph import Range, inputs_of, with_outputs

_LEAST_SCORE: Final = 0.01
_SAMPLES: Final = 2000
"""About how many values of a tensor are kept of each image."""
_SHARES: Final = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Parts of the full range that are tried."""
_SCORES: Final = 100
"""How many of an image's highest scores are compared."""

Progress = Callable[[int, int], None]
"""Told how many steps are done, and how many there are."""


def measure_ranges(
    model: onnx.ModelProto, convolutions: Sequence[str], blobs: Sequence[Floats], progress: Progress
) -> dict[str, Range]:
    """Finds the ranges in which the inputs of convolutions are rounded with the least error.

    A rare extreme value makes all steps wider, so ranges may cut it off.

    Args:
        model: The model in 32-bit floats.
        convolutions: Which, by the names of their outputs.
        blobs: The network's input for each image.
        progress: Told after each image.

    Returns:
        A range for each tensor that they read, by its name.

    Raises:
        PermanentError: The model cannot be run.
    """
    names = inputs_of(model, convolutions)
    inputs = {value.name for value in model.graph.input}
    inner = [name for name in names if name not in inputs]
    backend = open_backend("onnxruntime", with_outputs(model, inner), threads=None)
    full, samples = dict.fromkeys(names, Range(0.0, 0.0)), {name: list[Floats]() for name in names}
    for done, blob in enumerate(blobs, 1):
        outputs = dict(zip(backend.output_names, backend.infer(blob), strict=True))
        for name in names:
            values = outputs.get(name, blob).ravel()
            full[name] = Range(min(full[name].low, float(values.min())), max(full[name].high, float(values.max())))
            samples[name].append(values[:: max(1, values.size // _SAMPLES)].copy())
        progress(done, len(blobs))
    return {name: narrow(full[name], np.concatenate(samples[name])) for name in names}


def narrow(full: Range, values: Floats) -> Range:
    """Returns the range within another one that rounds some values with the least mean squared error."""
    candidates = [Range(full.low * low, full.high * high) for high in _SHARES for low in {1.0, high}]
    return min(candidates, key=lambda one: float(np.square(one.round(values) - values).mean()))


def rank_by_sensitivity(
    load: Callable[[Sequence[str]], Detector],
    convolutions: Sequence[str],
    images: Sequence[DecodedImage],
    progress: Progress,
) -> list[str]:
    """Orders convolutions by how much the scores change if that one alone is quantized, the most sensitive first.

    Args:
        load: Makes a detector of which some convolutions are quantized.
        convolutions: All of them.
        images: A few.
        progress: Told after each convolution.

    Raises:
        PermanentError: The model cannot be run.
    """
    exact = _highest_scores(load([]), images)
    errors: dict[str, float] = {}
    for name in convolutions:
        errors[name] = float(np.abs(_highest_scores(load([name]), images) - exact).mean())
        progress(len(errors), len(convolutions))
    return sorted(convolutions, key=lambda name: -errors[name])


def _highest_scores(detector: Detector, images: Sequence[DecodedImage]) -> Floats:
    """Returns the highest scores of each image, sorted: they compare whatever order the boxes have."""
    found = np.zeros((len(images), _SCORES), np.float32)
    for row, image in zip(found, images, strict=True):
        strong, weak = detector.detect_with_weak(image, _LEAST_SCORE)
        scores = sorted((one.confidence for one in (*strong, *weak)), reverse=True)[:_SCORES]
        row[: len(scores)] = scores
    return found
