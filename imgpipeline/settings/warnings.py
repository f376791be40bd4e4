"""When a warning about a day is shown in the Dagster UI. These limits change no result and stop nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings


@dataclass(frozen=True, slots=True)
class SilenceLimits:
    """From when on a source counts as silent."""

    default_s: float | None
    """Seconds without a frame or notice; None: never."""
    by_source: Mapping[str, float | None]
    """The same for some sources."""

    def of(self, source: str) -> float | None:
        """Returns the limit of a source in seconds; None: it never counts as silent."""
        return self.by_source.get(source, self.default_s)

    @classmethod
    def parse(cls, text: str) -> "SilenceLimits":
        """Reads `900`, `off` or `900,gate=60,uploads=off`.

        Raises:
            ValueError: It is something else.
        """
        default, *others = (part.strip() for part in text.split(","))
        named = (other.rpartition("=") for other in others)
        return cls(_seconds(default), {name.strip(): _seconds(value) for name, _, value in named})


def _seconds(text: str) -> float | None:
    if text.strip() == "off":
        return None
    seconds = float(text)
    if not 0 < seconds < 1e9:
        raise ValueError(f"{text} is not a number of seconds")
    return seconds


class WarningLimits(BaseSettings):
    """When a day looks wrong although nothing in it is."""

    warn_dead_letter_share: float = Field(
        0.05, ge=0, le=1, description="Warn if a larger share of a day's records are dead letters."
    )
    warn_dark_share: float = Field(0.8, ge=0, le=1, description="Warn if a larger share of a day's frames are dark.")
    dark_brightness: int = Field(
        16,
        ge=0,
        le=256,
        multiple_of=16,
        description="Frames with a mean luma below this count as dark: 0 is black, 255 white. A multiple of 16.",
    )
    warn_label_share: float = Field(
        0.25,
        ge=0,
        le=1,
        description="Warn if a label was counted less often than this share of its mean over the previous seven days.",
    )
    source_silent_s: str = Field(
        "900",
        description="A source counts as silent after this many seconds without a record; `off` for never. For single "
        "sources: `900,gate=60,uploads=off`.",
    )

    @property
    def silence_limits(self) -> SilenceLimits:
        """From when on a source counts as silent."""
        return SilenceLimits.parse(self.source_silent_s)

    @field_validator("source_silent_s")
    @classmethod
    def _check_silence(cls, value: str) -> str:
        try:
            SilenceLimits.parse(value)
        except ValueError:
            raise ValueError(f"got {value!r}; expected seconds or `off`, such as 900,gate=60,uploads=off") from None
        return value
