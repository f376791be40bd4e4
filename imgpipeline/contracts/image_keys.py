"""The template for the keys of stored images."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from imgpipeline.contracts.keys import IMAGES, safe_name
from imgpipeline.contracts.templates import FieldTemplate, check_fields
from imgpipeline.errors import UsageError

_OWN_PREFIX = re.compile(
    r"metadata\w*|frames|detections|dead_letters|notices|table_pieces|summaries|reports|redetections|audit", re.ASCII
)
"""First part of the keys that are not of images."""
_KEY_FIELDS = ("source", "day", "time", "digest", "name", "number")
_TELLS_FRAMES_APART = {"time", "digest", "name", "number"}


@dataclass(frozen=True, slots=True)
class ImageKeyTemplate:
    """How the keys of stored images are made: `images/{source}/{day}/{name}`, or `images/{name}` as other systems do.

    `{day}` and `{time}` (`HHMMSSffffff`) are the frame's own time in UTC, `{digest}` the first 16 digits of the image's
    SHA-256. A frame without a name is named `{time}-{digest}.jpg`.

    Raises:
        ValueError: It is not a template, has another field, or its keys could leave their folder, be those of other
            objects, or be the same for all frames.
    """

    text: str = f"{IMAGES}/{{source}}/{{day}}/{{name}}"
    """As it is set."""
    _template: FieldTemplate = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        template = FieldTemplate(self.text)
        object.__setattr__(self, "_template", template)
        check_fields(template, _KEY_FIELDS)
        first, *others = self.text.split("/")
        if not others or "{" in first or _OWN_PREFIX.fullmatch(first):
            raise ValueError(f"expected a folder of its own at first, such as {IMAGES}/, not {first!r}")
        if not re.fullmatch(r"[A-Za-z0-9._=~/-]*", template.literals) or {"", ".", ".."} & {first, *others}:
            raise ValueError("expected letters, digits and . _ - = ~ between slashes and fields, and no empty part")
        if not _TELLS_FRAMES_APART & set(template.fields):
            raise ValueError("expected one of {name}, {number}, {time} and {digest}: else all images had the same key")

    def key(
        self,
        source: str,
        time: datetime,
        digest: str,
        *,
        name: str | None = None,
        number: int | None = None,
        suffix: str = ".jpg",
        beside_other: bool = False,
    ) -> str:
        """Returns the key of an image.

        Args:
            source: Camera, video or folder.
            time: The frame's time.
            digest: SHA-256 of the image, hexadecimal.
            name: File name of the image, if it has one.
            number: Number of the frame, if it has one.
            suffix: Of the name that an image without one gets.
            beside_other: The key is taken by other content: this one gets `@` and its digest before the name's suffix.

        Raises:
            UsageError: The template has `{number}`, and the frame has none.
        """
        at, short = time.astimezone(UTC), digest[:16]
        values = {
            "source": safe_name(source),
            "day": at.date().isoformat(),
            "time": f"{at:%H%M%S%f}",
            "digest": short,
            "name": safe_name(
                _beside(name, short) if name and beside_other else name or f"{at:%H%M%S%f}-{short}{suffix}"
            ),
            "number": "" if number is None else str(number),
        }
        if number is None and "number" in self._template.fields:
            raise UsageError(
                f"The frames of {source} have no number, but the key template {self.text} needs one.",
                next_step="use {name}, {time} or {digest} in the template",
            )
        key = self._template.fill(values.__getitem__)
        if not beside_other or (name and "name" in self._template.fields):
            return key
        folder, _, last = key.rpartition("/")
        return f"{folder}/{safe_name(_beside(last, short))}"


def _beside(name: str, digest: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return f"{stem}@{digest}{dot}{ending}" if dot else f"{name}@{digest}"
