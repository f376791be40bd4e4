"""Limits that hold for all sources, with others for some of them: `900,gate=60,uploads=off`."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """A limit for each source."""

    default: float | None
    """The limit of every source that is not named; None: they have none."""
    by_source: Mapping[str, float | None]
    """Those of named sources; None: that source has none."""

    def of(self, source: str) -> float | None:
        """Returns the limit of a source; None: it has none."""
        return self.by_source.get(source, self.default)

    @property
    def has_any(self) -> bool:
        """Whether any source has a limit."""
        return any(limit is not None for limit in (self.default, *self.by_source.values()))

    @classmethod
    def parse(cls, text: str, *, most: float = 1e9) -> "SourceLimits":
        """Reads `900`, `off`, `gate=60` or `900,gate=60,uploads=off`.

        Args:
            text: As it is set; without a number that has no name, sources that are not named have no limit.
            most: The largest limit.

        Raises:
            ValueError: It is something else.
        """
        parts = [part.strip().rpartition("=") for part in text.split(",")]
        defaults = [_limit(value, most) for _, equals, value in parts if not equals]
        named = {name.strip(): _limit(value, most) for name, equals, value in parts if equals}
        if len(defaults) > 1 or len(defaults) + len(named) < len(parts) or "" in named:
            raise ValueError(f"{text} names a source twice, or has more than one number without a name")
        return cls(defaults[0] if defaults else None, named)


def checked_limits(text: str | None, unit: str, *, most: float = 1e9) -> str | None:
    """Returns a setting as it is.

    Raises:
        ValueError: It cannot be parsed; the message gives an example.
    """
    try:
        SourceLimits.parse(text or "off", most=most)
    except ValueError:
        raise ValueError(f"got {text!r}; expected {unit} or `off`, such as 900,gate=60,uploads=off") from None
    return text


def _limit(text: str, most: float) -> float | None:
    if text.strip() == "off":
        return None
    limit = float(text)
    if not 0 < limit <= most:
        raise ValueError(f"{text} is not a number above 0 and up to {most:g}")
    return limit
