"""Finds variables that look like a setting and have no effect, such as `IMGPIPELINE_STOR_URL`. No value is shown."""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from imgpipeline.faultpoints import ONCE_VARIABLE, PLAN_VARIABLE
from imgpipeline.settings.loading import Settings
from imgpipeline.settings.variables import PREFIX, variables

_NO_SETTINGS: Final = (
    f"{PREFIX}TRACEBACK",
    PLAN_VARIABLE,
    ONCE_VARIABLE,
    f"{PREFIX}REQUIRE_SERVERS",
    f"{PREFIX}TEST_DATA",
    f"{PREFIX}TEST_DEFINITIONS",
)
"""Variables of this project that are read in other places: by the command line and by tests."""
_LIKE_THE_PREFIX: Final = 0.9
"""From this similarity on, a name such as `IMGPIPLINE_LANES` counts as a misspelt prefix."""


@dataclass(frozen=True, slots=True)
class UnknownSetting:
    """A variable that looks like a setting and has no effect."""

    name: str
    """As it is written."""
    place: str
    """`environment` or `.env`."""
    nearest: str | None
    """The setting that was probably meant; None if none is similar."""

    def __str__(self) -> str:
        meant = f" Did you mean {self.nearest}?" if self.nearest else ""
        return f"{self.name} ({self.place}) is not a setting and has no effect.{meant}"


def unknown_settings() -> list[UnknownSetting]:
    """Returns the variables in the environment and in `.env` that look like a setting and are none, sorted by name.

    A name that is in both places is listed once. A `.env` that cannot be read has none: `load_settings` refuses it.
    """
    settings = [own for name, field in Settings.model_fields.items() for own in variables(name, field)]
    own = [name for name in settings if name.startswith(PREFIX)]
    known = {*own, *_NO_SETTINGS}
    places = {**dict.fromkeys(_names_in_file(), ".env"), **dict.fromkeys(os.environ, "environment")}
    return [
        UnknownSetting(name, place, _nearest(name.upper(), own))
        for name, place in sorted(places.items())
        if name.upper() not in known and _is_meant_for_us(name.upper(), known)
    ]


def _names_in_file() -> list[str]:
    file = Path(str(Settings.model_config.get("env_file")))
    try:
        return list(dotenv_values(file, encoding="utf-8")) if file.is_file() else []
    except (OSError, UnicodeDecodeError):
        return []


def _nearest(name: str, own: list[str]) -> str | None:
    rest = name.removeprefix(PREFIX) if name.startswith(PREFIX) else name.partition("_")[2]
    found = difflib.get_close_matches(rest, [one.removeprefix(PREFIX) for one in own], n=1)
    return PREFIX + found[0] if found else None


def _is_meant_for_us(name: str, known: set[str]) -> bool:
    if name.startswith(PREFIX):
        return True
    prefix, _, rest = name.partition("_")
    similar = difflib.SequenceMatcher(None, f"{prefix}_", PREFIX).ratio() >= _LIKE_THE_PREFIX
    return similar and PREFIX + rest in known
