"""All settings of one process, read from the environment and from `.env`.

The table in docs/operations.md is generated from the fields. No secret is shown; an error names the variable that is
wrong.
"""

from hashlib import sha256
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict, SettingsError

from imgpipeline.errors import ConfigurationError
from imgpipeline.settings.alerts import AlertSettings
from imgpipeline.settings.detection import DetectionSettings
from imgpipeline.settings.events import EventSettings
from imgpipeline.settings.gating import GateSettings
from imgpipeline.settings.http import HttpSettings
from imgpipeline.settings.kafka import KafkaSettings
from imgpipeline.settings.messages import MessageSettings
from imgpipeline.settings.model import ModelSettings
from imgpipeline.settings.mqtt import MqttSettings
from imgpipeline.settings.sources import SourceSettings
from imgpipeline.settings.store import StoreSettings
from imgpipeline.settings.tables import TableSettings
from imgpipeline.settings.tracking import TrackingSettings
from imgpipeline.settings.variables import PREFIX
from imgpipeline.settings.warnings import WarningLimits


class Settings(
    # Pydantic lists the fields of the last base first.
    WarningLimits, AlertSettings, EventSettings, TrackingSettings, TableSettings, GateSettings, DetectionSettings,
    ModelSettings, HttpSettings, MqttSettings, SourceSettings, MessageSettings, KafkaSettings, StoreSettings
):  # fmt: skip
    """The settings of one process. Immutable; `load_settings` reads them."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        env_ignore_empty=True,
        frozen=True,
        allow_inf_nan=False,
        populate_by_name=True,
    )

    def results_hash(self) -> str:
        """Returns a hash of what changes the results of a detection run, 16 hexadecimal digits.

        What was added later counts only where it is set, so that the hash of the other settings stays the same.
        """
        scale = () if self.reduced_decoding else ("full size",)
        labels = () if self.model_labels is None else ("labels", _content(self.model_labels))
        weak = () if self.weak_confidence is None else ("weak", self.weak_confidence)
        computed = () if self.precision == "fp32" else ("precision", self.precision)
        whole = ("integer boxes",) if self.integer_boxes else ()
        several = () if self.detectors is None else ("detectors", self.detectors)
        gates = tuple((n, v) for n in GateSettings.model_fields if (v := getattr(self, n)) is not None)
        parts = (self.model, self.model_decoder, self.confidence_threshold, self.nms_threshold, self.nms_per_class,
                 self.max_image_bytes, self.max_image_pixels, self.max_message_bytes, self.first_day,
                 *scale, *labels, *weak, *computed, *whole, *several, *self.changed_form(), *gates)  # fmt: skip
        return sha256(repr(parts).encode()).hexdigest()[:16]


def _content(path: Path) -> str:
    """Returns the hash of a file, or its path where it cannot be read."""
    try:
        return sha256(path.expanduser().read_bytes()).hexdigest()
    except OSError:
        return str(path)


def load_settings(**overrides: object) -> Settings:
    """Reads the settings.

    Args:
        **overrides: Values by field name that win over environment and `.env`.

    Returns:
        The checked settings.

    Raises:
        ConfigurationError: A value is not allowed; the message names the variable, never a secret's value.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # the fields check what they are given
    except (SettingsError, UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(
            f"Settings cannot be read: {type(error).__name__}.", next_step="look at .env: is it readable UTF-8 text?"
        ) from None
    except ValidationError as error:
        problems = [f"{_variable(e['loc'])}: {e['msg']}" for e in error.errors(include_input=False, include_url=False)]
        raise ConfigurationError(
            "Settings are wrong. " + "; ".join(problems) + ".",
            next_step="set them right in the environment or in .env; docs/operations.md lists them all",
        ) from None


def _variable(location: tuple[int | str, ...]) -> str:
    # A value that came from the environment is located by its variable, one from the caller by its field.
    name = str(location[0]) if location else "settings"
    return PREFIX + name.upper() if name in Settings.model_fields else name.upper()
