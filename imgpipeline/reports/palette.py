"""The colours of a report: one per label, the same in charts, tables and previews."""

from collections.abc import Sequence

from imgpipeline.reports.headline import LabelHours

SERIES_COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#9498a0")
"""Colours of the classes `s0` to `s7`; the last is for all other labels."""
OTHERS = "others"
"""Name for all other labels together."""
OTHERS_STYLE = f"s{len(SERIES_COLOURS) - 1}"
"""The class that colours them."""

Colour = tuple[int, int, int]
"""Blue, green, red, each 0 to 255."""


def series_style(place: int, label: LabelHours) -> str:
    """Returns the class that colours a label in charts: by its place; all other labels are grey."""
    return f"s{place}" if label.label else OTHERS_STYLE


def label_style(label: str, top: Sequence[LabelHours]) -> str:
    """Returns the class that colours a label anywhere on a page."""
    places = [place for place, one in enumerate(top) if one.label == label]
    return f"s{places[0]}" if places and label else OTHERS_STYLE


def label_colour(label: str, top: Sequence[LabelHours]) -> Colour:
    """Returns the colour of a label for drawing on images."""
    red, green, blue = bytes.fromhex(SERIES_COLOURS[int(label_style(label, top)[1:])][1:])
    return blue, green, red
