"""Names of settings in the environment, and limits with exceptions per source: `900,gate=60,uploads=off`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import AliasChoices, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "IMGPIPELINE_"
"""Prefix of all environment variables of this project."""


class SettingsGroup(BaseSettings):
    """Settings of one concern. The docstring of a field is its description in docs/operations.md and `settings`."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)


def either(name: str, *others: str) -> AliasChoices:
    """Returns the variables of a setting that is also read from other names, such as `AWS_REGION`."""
    return AliasChoices(PREFIX + name, *others)


def variables(name: str, field: FieldInfo) -> list[str]:
    """Returns the environment variables of a setting, starting with the one that has this project's prefix."""
    if isinstance(field.validation_alias, AliasChoices):
        return list(dict.fromkeys(str(choice) for choice in field.validation_alias.choices))
    return [PREFIX + name.upper()]


def split_list(value: object) -> object:
    """Splits text at commas; returns any other value unchanged."""
    return tuple(v.strip() for v in value.split(",") if v.strip()) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """A limit for all sources, with exceptions for some: `900,gate=60,uploads=off`."""

    default: float | None = None
    """The limit of sources that are not named; None for no limit."""
    by_source: Mapping[str, float | None] = field(default_factory=dict)
    """The limits of named sources; None for no limit."""

    def __str__(self) -> str:
        named = [f"{name}={_shown(limit)}" for name, limit in self.by_source.items()]
        return ",".join(named if named and self.default is None else [_shown(self.default), *named])

    def of(self, source: str) -> float | None:
        """Returns the limit of a source; None if it has none."""
        return self.by_source.get(source, self.default)

    @property
    def has_any(self) -> bool:
        """Whether any source has a limit."""
        return any(limit is not None for limit in (self.default, *self.by_source.values()))

    @classmethod
    def parse(cls, text: str, *, most: float = 1e9) -> "SourceLimits":
        """Parses `900`, `off`, `gate=60` or `900,gate=60,uploads=off`.

        Args:
            text: The limits. Without a default, only the named sources have a limit.
            most: The largest limit.

        Raises:
            ValueError: The text has another form, or a limit is out of range.
        """
        parts = [part.strip().rpartition("=") for part in text.split(",")]
        defaults = [_limit(value, most) for _, equals, value in parts if not equals]
        named = {name.strip(): _limit(value, most) for name, equals, value in parts if equals}
        if len(defaults) > 1 or len(defaults) + len(named) < len(parts) or "" in named:
            raise ValueError(f"{text} names a source twice, or has more than one default")
        return cls(defaults[0] if defaults else None, named)


def limits_of(unit: str, *, most: float = 1e9) -> BeforeValidator:
    """Returns the validator of a setting with limits, which are given as text or as one number."""

    def parse(value: object) -> object:
        try:
            return value if isinstance(value, SourceLimits) else SourceLimits.parse(str(value), most=most)
        except ValueError:
            raise ValueError(f"got {value!r}; expected {unit} or `off`, such as 900,gate=60,uploads=off") from None

    return BeforeValidator(parse)


def _shown(limit: float | None) -> str:
    return "off" if limit is None else f"{limit:.15g}"


def _limit(text: str, most: float) -> float | None:
    if text.strip() == "off":
        return None
    limit = float(text)
    if not 0 < limit <= most:
        raise ValueError(f"{text} is not a number above 0 and up to {most:g}")
    return limit
