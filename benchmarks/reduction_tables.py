"""The tables of reduced decoding: boxes, confidences and times, a row for each width."""

from collections.abc import Mapping
from typing import Any

from benchmarks.table import Table


def reduction_tables(part: Mapping[str, Any]) -> list[Table]:
    """Makes the tables of `benchmarks.reduction`."""
    sizes = part["sizes"]
    missing = [Table(("left out, because",), tuple((text,) for text in part["missing"]))] if part["missing"] else []
    return [
        Table(
            ("width", "decoded at", "pictures", "boxes, full size", "boxes, reduced", "matched", "mean IoU"),
            tuple(map(_boxes, sizes)),
            "Boxes of both ways, matched at an IoU of 0.5 and the same label:",
        ),
        Table(
            ("width", "boxes, original size", "found again at full size", "found again reduced"),
            tuple(map(_originals, sizes)),
            "Against the pictures before they were enlarged:",
        ),
        Table(
            ("width", "mean difference", "median apart", "95 % within", "at most", "surest box without a match"),
            tuple(map(_confidences, sizes)),
            "Confidences, reduced against full size:",
        ),
        Table(
            ("width", "decoding: full, reduced", "ratio", "whole picture: full, reduced", "ratio"),
            tuple(map(_times, sizes)),
            "Median CPU time:",
        ),
        *missing,
    ]


def _boxes(size: Mapping[str, Any]) -> tuple[str, ...]:
    scales = ", ".join(f"1/{scale}" for scale in size["reductions"])
    counts = (f"{size[name]:,}" for name in ("pictures", "boxes_full", "boxes_reduced", "matched"))
    return (str(size["width"]), scales, *counts, f"{size['mean_iou']:.3f}")


def _originals(size: Mapping[str, Any]) -> tuple[str, ...]:
    counts = (size["boxes_original"], size["original_full"], size["original_reduced"])
    return (str(size["width"]), *(f"{count:,}" for count in counts))


def _confidences(size: Mapping[str, Any]) -> tuple[str, ...]:
    names = ("median_apart", "p95_apart", "most_apart", "unmatched_greatest_confidence")
    return (str(size["width"]), f"{size['mean_difference']:+.4f}", *(f"{size[name]:.3f}" for name in names))


def _times(size: Mapping[str, Any]) -> tuple[str, ...]:
    return (str(size["width"]), *_both(size, "decode_ms"), *_both(size, "whole_ms"))


def _both(size: Mapping[str, Any], what: str) -> tuple[str, str]:
    full, reduced = size[f"full_{what}"], size[f"reduced_{what}"]
    return f"{full:.1f} ms, {reduced:.1f} ms", f"{reduced / full:.2f}"
