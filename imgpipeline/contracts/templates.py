"""Templates such as `image_database/{image_num:05d}.jpg`, for the paths, sources and keys of images.

A field is a name in braces, optionally with a number of digits. The rest of Python's format language is not supported,
so a template can neither access attributes nor produce huge texts.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from imgpipeline.contracts.keys import IMAGES, safe_name
from imgpipeline.errors import UsageError

_PART = re.compile(r"\{(?P<name>[A-Za-z_]\w{0,99})(?::0?(?P<digits>[1-9]\d?)d)?\}|(?P<literal>[^{}]+)", re.ASCII)
_MAX_LENGTH = 1_000
RESERVED_FOLDER = re.compile(
    r"metadata\w*|detection|daily|probes|deleted_images|frames|(weak_)?detections|dead_letters|notices|table_pieces|tracks|track_\w+|unique_\w+|"
    r"summaries|frame_changes|events|event_images|zone_occupancy|line_crossings|alerts\w*|annotations|reviewed|reports|"
    r"redetections|audit|accuracy|sinks|unfinished_ingests",
    re.ASCII,
)
"""First part of keys of this project that do not belong to images."""
_KEY_FIELDS = ("source", "day", "time", "digest", "name", "number")
_UNIQUE_PER_FRAME = {"time", "digest", "name", "number"}


@dataclass(frozen=True, slots=True)
class _Part:
    literal: str
    """Fixed text; empty for a field."""
    name: str = ""
    digits: int = 0
    """Minimum digits of a whole number; 0 if the field is text."""


@dataclass(frozen=True, slots=True)
class FieldTemplate:
    """A text with fields.

    Raises:
        ValueError: A brace has no counterpart, or a field has a format other than one such as `:05d`.
    """

    text: str
    _parts: tuple[_Part, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts, position = [], 0
        while position < len(self.text):
            found = _PART.match(self.text, position)
            if found is None:
                raise ValueError(f"cannot read {self.text[position:][:40]!r}; expected {{name}} or {{name:05d}}")
            parts.append(_Part(found["literal"] or "", found["name"] or "", int(found["digits"] or 0)))
            position = found.end()
        if not self.text or len(self.text) > _MAX_LENGTH:
            raise ValueError(f"expected 1 to {_MAX_LENGTH:,} characters")
        object.__setattr__(self, "_parts", tuple(parts))

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields, in order, without duplicates."""
        return tuple(dict.fromkeys(part.name for part in self._parts if part.name))

    @property
    def numbers(self) -> tuple[str, ...]:
        """The names of the fields that are whole numbers with a minimum number of digits."""
        return tuple(dict.fromkeys(part.name for part in self._parts if part.digits))

    @property
    def literals(self) -> str:
        """The fixed text, without the fields."""
        return "".join(part.literal for part in self._parts)

    def fill(self, value_of: Callable[[str], str]) -> str:
        """Returns the text with its fields replaced.

        Args:
            value_of: Returns the value of a field as text; for the fields in `numbers`, a whole number.

        Raises:
            ValueError: The value of a field in `numbers` is not a whole number.
        """
        return "".join(part.literal or _formatted(part, value_of(part.name)) for part in self._parts)


def _formatted(part: _Part, value: str) -> str:
    if not part.digits:
        return value
    if not re.fullmatch(r"\d{1,18}", value, re.ASCII):
        raise ValueError(f"{part.name}: {value[:40]!r} is not a whole number")
    return f"{int(value):0{part.digits}d}"


class PathTemplate(Protocol):
    """What finds the path of an image by fields of its message: a `FieldTemplate`, or a lookup."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields."""

    @property
    def numbers(self) -> tuple[str, ...]:
        """The names of those that are whole numbers."""

    def fill(self, value_of: Callable[[str], str]) -> str:
        """Returns the path; raises ValueError as `FieldTemplate.fill`, or BadInputError if there is none."""


@dataclass(frozen=True, slots=True)
class ImageKeyTemplate:
    """How images are named in the store: `images/{source}/{day}/{name}`, or `images/{name}` as other systems do.

    `{day}` and `{time}` (`HHMMSSffffff`) are the frame's own time in UTC, `{digest}` is the first 16 digits of the
    image's SHA-256. A frame without a name is named `{time}-{digest}.jpg`.

    Raises:
        ValueError: The template is malformed or has an unknown field, or its keys could leave their folder, collide
            with other objects, or be the same for all frames.
    """

    text: str = f"{IMAGES}/{{source}}/{{day}}/{{name}}"
    _template: FieldTemplate = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        template = FieldTemplate(self.text)
        object.__setattr__(self, "_template", template)
        _check_fields(template, _KEY_FIELDS)
        first, *others = self.text.split("/")
        if not others or "{" in first or RESERVED_FOLDER.fullmatch(first):
            raise ValueError(f"expected a separate folder first, such as {IMAGES}/, not {first!r}")
        if not re.fullmatch(r"[A-Za-z0-9._=~/-]*", template.literals) or {"", ".", ".."} & {first, *others}:
            raise ValueError("expected letters, digits and . _ - = ~ between slashes and fields, and no empty part")
        if not _UNIQUE_PER_FRAME & set(template.fields):
            raise ValueError("expected {name}, {number}, {time} or {digest}: otherwise all images get the same key")

    def key(
        self, source: str, time: datetime, digest: str, *, name: str | None = None, number: int | None = None,
        suffix: str = ".jpg",
    ) -> str:  # fmt: skip
        """Returns the key of an image.

        Args:
            source: Camera, video or folder.
            digest: SHA-256 of the image, hexadecimal.
            name: File name of the image, if it has one.
            number: Number of the frame, if it has one.
            suffix: Suffix of the name that an unnamed image gets.

        Raises:
            UsageError: The template has `{number}`, and the frame has no number.
        """
        if number is None and "number" in self._template.fields:
            raise UsageError(
                f"The frames of {source} have no number, but the key template {self.text} needs one.",
                next_step="use {name}, {time} or {digest} in the template",
            )
        at, short = time.astimezone(UTC), digest[:16]
        values = {
            "source": safe_name(source),
            "day": at.date().isoformat(),
            "time": f"{at:%H%M%S%f}",
            "digest": short,
            "name": safe_name(name or f"{at:%H%M%S%f}-{short}{suffix}"),
            "number": str(number),
        }
        return self._template.fill(values.__getitem__)


def key_beside(key: str, digest: str) -> str:
    """Returns the key of an image if other bytes have its own key: `images/0001~{first 16 digits}.jpg`."""
    folder, slash, name = key.rpartition("/")
    stem, dot, ending = name.rpartition(".") if "." in name else (name, "", "")
    return f"{folder}{slash}{stem}~{digest[:16]}{dot}{ending}"


def _check_fields(template: FieldTemplate, known: Collection[str]) -> None:
    for name in template.fields:
        if name not in known:
            raise ValueError(f"there is no field {{{name}}}; expected {', '.join(f'{{{one}}}' for one in known)}")
