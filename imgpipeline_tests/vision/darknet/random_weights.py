"""Random Darknet weights of a network's real layout, with activations that neither die nor explode.

The layout is written here a second time, from Darknet's description and not with the reader's code, so that the
two can disagree.
"""

import re
import struct

import numpy as np


def random_weights(cfg: str, seed: int) -> bytes:
    """Make a weights file for a cfg's text (He initialisation, batch-norm statistics near those of a trained net)."""
    rng = np.random.default_rng(seed)
    channels, layers = [], []
    sections = [s for s in re.split(r"\n(?=\[)", "\n" + re.sub(r"#.*", "", cfg)) if s.strip()]
    for text in sections[1:]:
        options = dict(re.findall(r"^\s*(\w+)\s*=\s*(.+?)\s*$", text, re.MULTILINE))
        kind = re.search(r"\[(\w+)\]", text).group(1)
        here = len(channels)
        before = channels[-1] if channels else 3
        if kind == "convolutional":
            filters, size, groups = (max(1, int(options.get(k, 1))) for k in ("filters", "size", "groups"))
            is_head = options.get("activation") == "linear" and "batch_normalize" not in options
            layers.append(_convolution(rng, filters, before // groups, size, is_head))
            channels.append(filters)
        elif kind == "route":
            sources = [int(n) for n in options["layers"].split(",")]
            total = sum(channels[n if n >= 0 else here + n] for n in sources)
            channels.append(total // int(options.get("groups", 1)))
        else:
            channels.append(before)
    return struct.pack("<iiiq", 0, 2, 5, 32_013_312) + b"".join(layers)


def _convolution(rng, filters: int, channels: int, size: int, is_head: bool) -> bytes:
    fan_in = channels * size * size
    deviation = 1.2 / np.sqrt(fan_in) if is_head else np.sqrt(2 / fan_in)
    kernel = rng.normal(0, deviation, (filters, channels, size, size))
    bias = rng.normal(0, 0.3, filters)
    if is_head:
        if filters % 3 == 0 and filters > 12:  # three anchors with box, objectness and classes each
            bias.reshape(3, -1)[:, 4] = -1.5
            # Sizes are exponentials: at full deviation boxes would be dozens of pictures wide.
            kernel.reshape(3, filters // 3, -1)[:, 2:4] *= 0.4
        parts = [bias]
    else:
        parts = [bias, rng.uniform(0.7, 1.3, filters), rng.normal(0, 0.3, filters), rng.uniform(0.6, 1.6, filters)]
    return b"".join(part.astype("<f4").tobytes() for part in (*parts, kernel))
