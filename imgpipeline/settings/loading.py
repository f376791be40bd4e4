"""Loads all settings of a process from the environment and `.env`, and finds misspelt variables.

Errors name the variable and never show a secret. The table in docs/operations.md is generated from the fields.
"""

import contextlib
import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Final

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict, SettingsError

from imgpipeline.errors import ConfigurationError
from imgpipeline.faultpoints import ONCE_VARIABLE, PLAN_VARIABLE
from imgpipeline.settings.classic import CLASSIC
from imgpipeline.settings.kafka import KafkaSettings
from imgpipeline.settings.logs import LogSettings
from imgpipeline.settings.model import DetectionSettings, GateSettings, ModelSettings
from imgpipeline.settings.sources import HttpSettings, MessageSettings, MqttSettings, SourceSettings
from imgpipeline.settings.store import StoreSettings
from imgpipeline.settings.tables import (
    AlertSettings,
    EventSettings,
    SinkSettings,
    TableSettings,
    TrackingSettings,
    WarningLimits,
)  # fmt: skip
from imgpipeline.settings.variables import PREFIX, variables


class Settings(
    # Pydantic lists the fields of the last base first.
    LogSettings, SinkSettings, WarningLimits, AlertSettings, EventSettings, TrackingSettings, TableSettings,
    GateSettings, DetectionSettings, ModelSettings, HttpSettings, MqttSettings, SourceSettings, MessageSettings,
    KafkaSettings, StoreSettings
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
        """Returns a hash of the settings that change the results of a detection run, 16 hexadecimal digits."""
        labels = self.model_labels and _content(self.model_labels)
        form = (self.timestamp_fields, self.message_timezone, self.image_path_template, self.source_template)
        gates = tuple(getattr(self, name) for name in GateSettings.model_fields)
        parts = (self.model, self.model_decoder, self.confidence_threshold, self.nms_threshold, self.nms_per_class,
                 self.max_image_bytes, self.max_image_pixels, self.max_message_bytes, self.first_day,
                 self.reduced_decoding, labels, self.weak_confidence, self.precision, self.integer_boxes,
                 self.detectors, form, gates)  # fmt: skip
        return sha256(repr(parts).encode()).hexdigest()[:16]


def _content(path: Path) -> str:
    """Returns the hash of a file, or its path if it cannot be read."""
    try:
        return sha256(path.expanduser().read_bytes()).hexdigest()
    except OSError:
        return str(path)


def load_settings(**overrides: object) -> Settings:
    """Reads the settings. In Dagster's processes, it first restores the environment that Dagster was given.

    Args:
        **overrides: Values by field name, which take precedence over the environment and `.env`.

    Returns:
        The validated settings.

    Raises:
        ConfigurationError: A value is not allowed, or only a bucket is named; the message never shows a secret's value.
    """
    _undo_env_file(_variables_in_file())
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]  # the fields validate it
    except (SettingsError, UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(
            f"Settings cannot be read: {type(error).__name__}.", next_step="check that .env is readable UTF-8 text"
        ) from None
    except ValidationError as error:
        problems = [f"{_variable(e['loc'])}: {e['msg']}" for e in error.errors(include_input=False, include_url=False)]
        raise ConfigurationError(
            "Settings are invalid. " + "; ".join(problems) + ".",
            next_step="correct the environment or .env; docs/operations.md lists all settings",
        ) from None
    bucket = read_variable("S3_BUCKET_NAME")
    if bucket and "store_url" not in settings.model_fields_set:
        raise ConfigurationError(
            f"S3_BUCKET_NAME names the bucket {bucket}, but IMGPIPELINE_STORE_URL is not set. Results would go to a "
            "folder of this machine, and another program may own the bucket.",
            next_step=f"set IMGPIPELINE_STORE_URL=s3://{bucket}, or to {settings.store_url} for that folder",
        )
    return settings


def _variable(location: tuple[int | str, ...]) -> str:
    # Pydantic locates a value by its field or by the first of its variables, whichever of them was set.
    name = str(location[0]) if location else "settings"
    fields = [[field, *variables(field, info)] for field, info in Settings.model_fields.items()]
    names = next((names[1:] for names in fields if name in names), [name.upper()])
    return next(filter(read_variable, names), names[0])


_OTHER_VARIABLES: Final = (
    f"{PREFIX}TRACEBACK",
    PLAN_VARIABLE,
    ONCE_VARIABLE,
    f"{PREFIX}REQUIRE_SERVERS",
    f"{PREFIX}TEST_DATA",
    f"{PREFIX}TEST_DEFINITIONS",
)
"""Variables of this project that are not settings: the command line and tests read them."""
_DAGSTER: Final = {"dagster", "dagster-daemon", "dagster-webserver", "dagster_webserver", "dg"}
"""Dagster's programs, and the module after `python -m`."""
_PREFIX_SIMILARITY: Final = 0.9
"""Minimum similarity of a misspelt prefix, as in `IMGPIPLINE_LANES`."""


@dataclass(frozen=True, slots=True)
class UnknownSetting:
    """A variable that looks like a setting, or is one of an older pipeline, and has no effect."""

    name: str
    """Its name, as written."""
    place: str
    """`environment` or `.env`."""
    nearest: str | None
    """The most similar setting; None if none is similar."""
    instead: str | None = None
    """What to use instead of a variable of an older pipeline."""

    @property
    def may_be_of_others(self) -> bool:
        """Whether another program may need the variable, so that only `doctor` and `settings` should mention it."""
        return self.instead is not None and self.place == "environment"

    def __str__(self) -> str:
        if self.instead:
            return f"{self.name} ({self.place}) has no effect: {self.instead}."
        meant = f" Did you mean {self.nearest}?" if self.nearest else ""
        return f"{self.name} ({self.place}) is not a setting and has no effect.{meant}"


def unknown_settings() -> list[UnknownSetting]:
    """Returns the variables in the environment and `.env` that look like a setting but are not, sorted by name.

    Variables of older pipelines are included, because their users expect an effect. A name that occurs in
    both places is listed once. An unreadable `.env` is ignored: `load_settings` reports it.
    """
    settings = [each for name, field in Settings.model_fields.items() for each in variables(name, field)]
    own = [name for name in settings if name.startswith(PREFIX)]
    known = {*settings, *_OTHER_VARIABLES}
    file = _variables_in_file()
    places = {**dict.fromkeys(file, ".env"), **dict.fromkeys(os.environ, "environment")}
    return [
        UnknownSetting(name, ".env" if instead and name in file else place, _nearest(name.upper(), own), instead)
        for name, place in sorted(places.items())
        if name.upper() not in known
        and ((instead := _instead_of(name.upper())) or _is_meant_for_us(name.upper(), known))
    ]


def _instead_of(name: str) -> str | None:
    """Returns what to use instead of a variable of an older pipeline; None once a setting that does it is set."""
    for instead, names in CLASSIC.items():
        if any(fnmatchcase(name, each) for each in names.split()):
            return None if any(map(read_variable, re.findall(rf"{PREFIX}[A-Z0-9_]+", instead))) else instead
    return None


def read_variable(name: str) -> str | None:
    """Returns a variable that an option names, from the environment or `.env`; None if it is not set, or empty."""
    return os.environ.get(name) or _variables_in_file().get(name) or None


def read_secret(file: Path) -> str:
    """Returns the first line of a file, which is a secret.

    Raises:
        ConfigurationError: The file cannot be read, or the line is empty.
    """
    try:
        lines = file.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The secret in {file} cannot be read: {type(error).__name__}.",
            next_step="name a text file whose first line is the secret; that of a camera is user:password",
        ) from None
    if not lines or not lines[0].strip():
        raise ConfigurationError(
            f"The first line of {file} is empty.", next_step="write the secret there, for a camera user:password"
        )
    return lines[0]


def _variables_in_file() -> dict[str, str | None]:
    file = Path(str(Settings.model_config.get("env_file")))
    try:
        return dotenv_values(file, encoding="utf-8") if file.is_file() else {}
    except (OSError, UnicodeDecodeError):
        return {}


def _nearest(name: str, own: list[str]) -> str | None:
    rest = name.removeprefix(PREFIX) if name.startswith(PREFIX) else name.partition("_")[2]
    found = difflib.get_close_matches(rest, [one.removeprefix(PREFIX) for one in own], n=1)
    return PREFIX + found[0] if found else None


def _is_meant_for_us(name: str, known: set[str]) -> bool:
    if name.startswith(PREFIX):
        return True
    prefix, _, rest = name.partition("_")
    similar = difflib.SequenceMatcher(None, f"{prefix}_", PREFIX).ratio() >= _PREFIX_SIMILARITY
    return similar and PREFIX + rest in known


def _undo_env_file(file: Mapping[str, str | None]) -> None:
    """Lets the environment take precedence over `.env` in Dagster's processes.

    Every `dagster` command copies the `.env` of its working folder over its environment, and passes the result to the
    processes that it starts. What the user had set remains visible in `/proc` only. This gives these variables the
    values that the user had set, and removes our own ones that the user had not set, so that settings follow a changed
    file. Does nothing outside Dagster, and on systems without `/proc`.
    """
    if not file or (given := _given_to_dagster()) is None:
        return
    for name in [name for name, value in file.items() if value is not None and os.environ.get(name) == value]:
        if set_by_user := given.get(name.upper()):
            os.environ[name] = set_by_user
        elif name.upper().startswith(PREFIX):
            os.environ.pop(name, None)  # sensors load their settings in several threads


def _given_to_dagster() -> dict[str, str] | None:
    """Returns what the outermost Dagster command of this folder was started with, names in capitals; None outside."""
    given, process = None, Path("/proc/self")
    with contextlib.suppress(OSError):  # there is no /proc/0, and other users' processes cannot be read
        while True:
            command = os.fsdecode((process / "cmdline").read_bytes()).split("\0")
            if _DAGSTER & {Path(word).name for word in command[:4]} and (process / "cwd").samefile("."):
                variables = os.fsdecode((process / "environ").read_bytes()).split("\0")
                given = {name.upper(): value for name, _, value in (each.partition("=") for each in variables)}
            parent = re.search(r"^PPid:\s*(\d+)", (process / "status").read_text(), re.MULTILINE)
            process = Path("/proc", parent[1] if parent else "0")
    return given
