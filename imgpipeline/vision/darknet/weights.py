"""Reads Darknet's weights files, and folds batch normalization into the convolutions.

One float too few or too many is an error.

Layout (`load_weights_upto` in Darknet's parser.c): int32 major, minor, revision; number of training images, as int64
from version 0.2 on, otherwise int32; then little-endian float32 for each convolution: biases, with batch normalization
also scales, means and variances, and the kernel [filters, channels / groups, size, size].
"""

import struct
from dataclasses import dataclass

import numpy as np

from imgpipeline.errors import PermanentError
from imgpipeline.vision.darknet.network import Convolution, Layer, Network
from imgpipeline.vision.decoders import Floats

_EPSILON = 1e-6
"""Darknet divides by sqrt(variance) + 1e-6, OpenCV's importer and this module by sqrt(variance + 1e-6)."""


@dataclass(frozen=True, slots=True)
class ConvolutionWeights:
    """The weights of one convolution, with batch normalization folded in."""

    kernel: Floats
    """float32 [filters, channels / groups, size, size]."""
    bias: Floats
    """float32 [filters]."""


def read_weights(data: bytes, network: Network) -> dict[int, ConvolutionWeights]:
    """Returns the weights of each convolution, by layer number.

    Args:
        data: The whole weights file.
        network: Its network.

    Raises:
        PermanentError: The file is too short or too long for the network; the message names the layer and both
            numbers of floats.
    """
    values = _floats_after_header(data)
    weights: dict[int, ConvolutionWeights] = {}
    at = 0
    for layer in network.layers:
        if not isinstance(layer.operation, Convolution):
            continue
        needed = _float_count(layer.operation, network.shape_of(layer.sources[0])[0])
        if at + needed > len(values):
            raise _mismatch(
                f"layer {layer.section.number} [convolutional] needs floats {at} to {at + needed}",
                f"the file has {len(values)}",
            )
        weights[layer.section.number] = _fold(layer, network, values[at : at + needed])
        at += needed
    if at != len(values):
        last = max(weights, default=-1)
        raise _mismatch(
            f"layer {last} is the last that has weights; they end at float {at}", f"the file has {len(values)}"
        )
    return weights


def _floats_after_header(data: bytes) -> Floats:
    try:
        major, minor, _ = struct.unpack_from("<iii", data)
    except struct.error as error:
        raise _mismatch("the header has 12 bytes", f"the file has {len(data)} bytes") from error
    header_size_bytes = 20 if major * 10 + minor >= 2 and major < 1000 and minor < 1000 else 16
    body = data[header_size_bytes:]
    if len(data) < header_size_bytes or len(body) % 4:
        raise _mismatch(
            f"a header of {header_size_bytes} bytes and floats of 4 bytes", f"the file has {len(data)} bytes"
        )
    return np.frombuffer(body, "<f4").astype(np.float32, copy=False)


def _float_count(operation: Convolution, channels: int) -> int:
    kernel = operation.filters * (channels // operation.groups) * operation.size**2
    return kernel + operation.filters * (4 if operation.normalized else 1)


def _fold(layer: Layer, network: Network, values: Floats) -> ConvolutionWeights:
    operation = layer.operation
    assert isinstance(operation, Convolution)  # noqa: S101 - for the type checker; the caller has checked it
    channels = network.shape_of(layer.sources[0])[0] // operation.groups
    n = operation.filters
    if not np.isfinite(values).all():
        raise _mismatch(
            f"layer {layer.section.number} [convolutional] needs finite weights", "some are NaN or infinite"
        )
    # Folded in 64 bits, so values are rounded only once.
    bias = values[:n].astype(np.float64)
    kernel = values[-n * channels * operation.size**2 :].astype(np.float64)
    kernel = kernel.reshape(n, channels, operation.size, operation.size)
    if operation.normalized:
        scale, mean, variance = (values[n * k : n * (k + 1)].astype(np.float64) for k in (1, 2, 3))
        if (variance < 0).any():
            raise _mismatch(f"layer {layer.section.number} [convolutional] needs variances >= 0", f"{variance.min()}")
        factor = scale / np.sqrt(variance + _EPSILON)
        kernel = kernel * factor[:, None, None, None]
        bias = bias - mean * factor
    return ConvolutionWeights(kernel.astype(np.float32), bias.astype(np.float32))


def _mismatch(expected: str, actual: str) -> PermanentError:
    return PermanentError(
        f"Darknet weights do not fit the cfg: {expected}; {actual}.",
        next_step="check that cfg and weights are of the same model, and that the download is whole",
    )
