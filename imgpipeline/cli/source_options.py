"""Options that all commands share that publish frames: gating, masks and resizing (`PreparationOptions`)."""

from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.contracts.times import Hours, find_timezone
from imgpipeline.errors import UsageError

if TYPE_CHECKING:
    from imgpipeline.settings import Settings
    from imgpipeline.sources.options import Preparation

MinBrightnessOption = Annotated[
    float | None, typer.Option("--gate-min-brightness", help="Leave out frames darker than this (mean luma, 0 to 255).")
]
MinSharpnessOption = Annotated[
    float | None, typer.Option("--gate-min-sharpness", help="Leave out frames less sharp than this.")
]
MinChangeOption = Annotated[
    float | None,
    typer.Option(
        "--gate-min-change", help="Leave out frames that differ less than this from the last kept one (luma)."
    ),
]
HoursOption = Annotated[
    str | None, typer.Option("--gate-hours", help="Leave out frames outside these hours, such as 06:00-20:30.")
]
StoreGatedOption = Annotated[
    bool, typer.Option("--store-gated/--no-store-gated", help="Whether images of frames that are left out are stored.")
]
MaskOption = Annotated[
    list[str] | None,
    typer.Option("--mask", help='Polygon to paint black, as fractions: "0,0 0.5,0 0.5,0.2". Repeatable.'),
]
ResizeOption = Annotated[str | None, typer.Option("--resize", help="Stretch stored images to this size: 640x360.")]


def preparation_of(  # noqa: PLR0913 - one per option
    settings: "Settings",
    *,
    min_brightness: float | None = None,
    min_sharpness: float | None = None,
    min_change: float | None = None,
    hours: str | None = None,
    store_gated: bool = True,
    masks: list[str] | None = None,
    resize: str | None = None,
    derive: list[str] | None = None,
) -> "Preparation":
    """Returns what the options say is done to frames.

    Raises:
        UsageError: An option has a wrong form.
    """
    from imgpipeline.sources.options import Preparation, check_derivation, parse_polygon, parse_size  # noqa: PLC0415 - slow
    from imgpipeline.vision.gate import Gate  # noqa: PLC0415 - loads OpenCV

    try:
        limits = Hours.parse(hours, find_timezone(settings.timezone)) if hours else None
        return Preparation(
            gate=Gate(min_brightness, min_sharpness, min_change, limits),
            store_gated=store_gated,
            masks=tuple(parse_polygon(text) for text in masks or ()),
            resize=parse_size(resize) if resize else None,
            derive=tuple(check_derivation(text) for text in derive or ()),
        )
    except ValueError as error:
        raise UsageError(f"An option is wrong: {error}.", next_step="see --help of the command") from None
