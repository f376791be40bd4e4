"""Options of the commands that announce frames: how frames are prepared, and where and how they are announced."""

from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.options import TimezoneOption, timezone_settings
from imgpipeline.contracts.messages import MessageFormat
from imgpipeline.contracts.templates import ImageKeyTemplate
from imgpipeline.contracts.times import Hours, find_timezone, parse_time
from imgpipeline.errors import UsageError
from imgpipeline.settings import load_settings
from imgpipeline.settings.kafka import NOTICES_APART

if TYPE_CHECKING:
    from imgpipeline.settings import Settings
    from imgpipeline.sources.options import Preparation, PublishOptions
    from imgpipeline.sources.protocol import SourceKind


def _check_template(text: str | None) -> str | None:
    try:
        return None if text is None else ImageKeyTemplate(text).text
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from None


TopicOption = Annotated[
    str | None,
    typer.Option(
        "--topic", metavar="NAME", help="Topic to announce on. Default: the first one of IMGPIPELINE_KAFKA_TOPIC."
    ),
]
MessageFormatOption = Annotated[
    MessageFormat,
    typer.Option(
        "--message-format", help="native: all fields. classic: only image_path (s3://…) and upload_timestamp."
    ),
]
StartOption = Annotated[
    str | None, typer.Option("--start", help="Time of the first frame, such as 2026-01-09T12:00:00Z.")
]


@dataclass(frozen=True, slots=True)
class Preparing:
    """The options for gating, masking and resizing frames before they are stored."""

    resize: Annotated[str | None, typer.Option("--resize", help="Stretch stored images to this size: 640x360.")] = None
    mask: Annotated[
        list[str] | None,
        typer.Option("--mask", help='Polygon to paint black, as fractions: "0,0 0.5,0 0.5,0.2". Repeatable.'),
    ] = None
    gate_min_brightness: Annotated[
        float | None,
        typer.Option("--gate-min-brightness", help="Skip frames darker than this mean luma, 0 to 255."),
    ] = None
    gate_min_sharpness: Annotated[
        float | None, typer.Option("--gate-min-sharpness", help="Skip frames less sharp than this.")
    ] = None
    gate_min_change: Annotated[
        float | None,
        typer.Option("--gate-min-change", help="Skip frames whose luma differs less than this from the last kept one."),
    ] = None
    gate_hours: Annotated[
        str | None, typer.Option("--gate-hours", help="Skip frames outside these hours, such as 06:00-20:30.")
    ] = None
    store_gated: Annotated[
        bool, typer.Option("--store-gated/--no-store-gated", help="Store the images of skipped frames.")
    ] = True

    def preparation(self, settings: "Settings") -> "Preparation":
        """Returns how frames are prepared.

        Raises:
            UsageError: The value of an option is invalid.
        """
        from imgpipeline.sources.options import (  # noqa: PLC0415 - loads OpenCV
            Preparation,
            parse_polygon,
            parse_size,
        )
        from imgpipeline.vision.gate import Gate  # noqa: PLC0415 - as above

        try:
            hours = Hours.parse(self.gate_hours, find_timezone(settings.timezone)) if self.gate_hours else None
            return Preparation(
                gate=Gate(self.gate_min_brightness, self.gate_min_sharpness, self.gate_min_change, hours),
                store_gated=self.store_gated,
                masks=tuple(parse_polygon(text) for text in self.mask or ()),
                resize=parse_size(self.resize) if self.resize else None,
            )
        except ValueError as error:
            raise UsageError(f"An option is invalid: {error}.", next_step="see --help of the command") from None


@dataclass(frozen=True, slots=True)
class Announcing(Preparing):
    """The options of the commands that store the images of files and announce them."""

    topic: TopicOption = None
    key_template: Annotated[
        str | None,
        typer.Option(
            "--key-template",
            metavar="TEMPLATE",
            callback=_check_template,
            help="Key of a stored image, such as images/{name}, with the fields source, day, time, digest, name and "
            "number. Default: IMGPIPELINE_IMAGE_KEY_TEMPLATE.",
        ),
    ] = None
    message_format: MessageFormatOption = MessageFormat.NATIVE
    timezone: TimezoneOption = None

    def settings(self) -> "Settings":
        """Returns the settings, with the values that the options override."""
        template = {} if self.key_template is None else {"image_key_template": self.key_template}
        return load_settings(**timezone_settings(self.timezone), **topic_settings(self.topic), **template)

    def options(self, settings: "Settings", kind: "SourceKind") -> "PublishOptions":
        """Returns how frames are published.

        Raises:
            UsageError: The value of an option is invalid.
        """
        from imgpipeline.sources.options import default_options  # noqa: PLC0415 - loads OpenCV

        return replace(
            default_options(kind), preparation=self.preparation(settings), message_format=self.message_format
        )


def topic_settings(topic: str | None) -> dict[str, object]:
    """Returns the setting that `--topic` overrides: the topic, and its topic for notices if it is followed."""
    if topic is None:
        return {}
    apart = f"{topic}{NOTICES_APART}"
    return {"kafka_topics": (topic, apart) if apart in load_settings().kafka_topics else (topic,)}


def read_start(text: str | None, zone: tzinfo) -> datetime | None:
    """Returns the time of `--start`. A time without an offset from UTC is local time of the zone.

    Raises:
        UsageError: The text is not a time.
    """
    try:
        return None if text is None else parse_time(text, zone)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"--start {text!r}: {error}.", next_step="give an RFC 3339 time such as 2026-01-09T12:00:00Z"
        ) from None
