"""Texts with fields, such as `image_database/{image_num:05d}.jpg`: settings for paths, keys and sources are templates.

A field is a name in braces, optionally with a number of digits. Nothing else of Python's format language is understood,
so that no template can reach into an object or make a huge text.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

_PART = re.compile(r"\{(?P<name>[A-Za-z_]\w{0,99})(?::0?(?P<digits>[1-9]\d?)d)?\}|(?P<literal>[^{}]+)", re.ASCII)
_LONGEST = 1_000


@dataclass(frozen=True, slots=True)
class _Part:
    literal: str
    """Text that is kept; empty for a field."""
    name: str = ""
    """Name of the field."""
    digits: int = 0
    """Least digits of a whole number; 0 if the field is text."""


@dataclass(frozen=True, slots=True)
class FieldTemplate:
    """A text with fields.

    Raises:
        ValueError: It is not a template: a brace without its counterpart, or a format other than `:05d`.
    """

    text: str
    """As it was written."""
    _parts: tuple[_Part, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts, position = [], 0
        while position < len(self.text):
            found = _PART.match(self.text, position)
            if found is None:
                raise ValueError(f"cannot read {self.text[position:][:40]!r}; expected {{name}} or {{name:05d}}")
            parts.append(_Part(found["literal"] or "", found["name"] or "", int(found["digits"] or 0)))
            position = found.end()
        if not self.text or len(self.text) > _LONGEST:
            raise ValueError(f"expected 1 to {_LONGEST:,} characters")
        object.__setattr__(self, "_parts", tuple(parts))

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of its fields, in order, each once."""
        return tuple(dict.fromkeys(part.name for part in self._parts if part.name))

    @property
    def numbers(self) -> tuple[str, ...]:
        """The names of the fields that are whole numbers with a least number of digits."""
        return tuple(dict.fromkeys(part.name for part in self._parts if part.digits))

    @property
    def literals(self) -> str:
        """Its text without the fields."""
        return "".join(part.literal for part in self._parts)

    def fill(self, value_of: Callable[[str], str]) -> str:
        """Returns the text with its fields replaced.

        Args:
            value_of: Answers the value of a field as text; a number for the fields named by `numbers`.

        Raises:
            ValueError: A field that is a number is not one.
        """
        return "".join(part.literal or _shown(part, value_of(part.name)) for part in self._parts)


def _shown(part: _Part, value: str) -> str:
    if not part.digits:
        return value
    if not re.fullmatch(r"\d{1,18}", value, re.ASCII):
        raise ValueError(f"{part.name}: {value[:40]!r} is not a whole number")
    return f"{int(value):0{part.digits}d}"


def check_fields(template: FieldTemplate, known: Collection[str]) -> None:
    """Refuses a template with fields that do not exist.

    Raises:
        ValueError: It has one; the message lists those that there are.
    """
    for name in template.fields:
        if name not in known:
            raise ValueError(f"there is no field {{{name}}}; there are {', '.join(f'{{{one}}}' for one in known)}")
