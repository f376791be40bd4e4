"""The options of all commands that publish frames, declared once: `@publishes` adds them to a command."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, get_type_hints

from imgpipeline.cli.announcing import KeyTemplateOption, MessageFormatOption, TopicOption, announcing_settings
from imgpipeline.cli.source_options import (
    HoursOption,
    MaskOption,
    MinBrightnessOption,
    MinChangeOption,
    MinSharpnessOption,
    ResizeOption,
    StoreGatedOption,
    preparation_of,
)
from imgpipeline.cli.timezones import TimezoneOption, timezone_settings
from imgpipeline.contracts.messages import MessageFormat
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.settings import Settings
    from imgpipeline.sources.options import PublishOptions
    from imgpipeline.sources.protocol import SourceKind


@dataclass(frozen=True, slots=True)
class Publishing:
    """What the shared options say; a command takes it as its parameter `publishing`."""

    topic: TopicOption = None
    key_template: KeyTemplateOption = None
    message_format: MessageFormatOption = MessageFormat.NATIVE
    resize: ResizeOption = None
    mask: MaskOption = None
    gate_min_brightness: MinBrightnessOption = None
    gate_min_sharpness: MinSharpnessOption = None
    gate_min_change: MinChangeOption = None
    gate_hours: HoursOption = None
    store_gated: StoreGatedOption = True
    timezone: TimezoneOption = None

    def settings(self) -> "Settings":
        """Returns the settings, with what the options override."""
        return load_settings(**timezone_settings(self.timezone), **announcing_settings(self.topic, self.key_template))

    def options(self, settings: "Settings", kind: "SourceKind") -> "PublishOptions":
        """Returns how frames are published.

        Raises:
            UsageError: An option has a wrong form.
        """
        from imgpipeline.sources.options import default_options  # noqa: PLC0415 - loads OpenCV

        preparation = preparation_of(
            settings,
            min_brightness=self.gate_min_brightness,
            min_sharpness=self.gate_min_sharpness,
            min_change=self.gate_min_change,
            hours=self.gate_hours,
            store_gated=self.store_gated,
            masks=self.mask,
            resize=self.resize,
        )
        return replace(default_options(kind), preparation=preparation, message_format=self.message_format)


def publishes(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of `Publishing` in place of its parameter `publishing`."""
    hints = get_type_hints(Publishing, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(Publishing)
    ]

    @wraps(command)
    def run(**given: Any) -> None:
        publishing = Publishing(**{option.name: given.pop(option.name) for option in shared})
        command(**given, publishing=publishing)

    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(command).parameters.values()
        if parameter.name != "publishing"
    ]
    run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *shared)}
    return run
