"""Reads TOML files of named entries (`[[source]]`, `[[zone]]`) into pydantic models. Errors name line and field."""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from imgpipeline.errors import ConfigurationError

_Model = TypeVar("_Model", bound=BaseModel)
_HEADER = re.compile(r"\s*\[{1,2}\s*([^\[\]]+?)\s*\]{1,2}\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*["']?([A-Za-z0-9_-]+)["']?\s*[=.]""")


@dataclass(frozen=True, slots=True)
class TomlFile:
    """A parsed TOML file, before its fields are validated."""

    name: str
    """Path or URL, for error messages."""
    page: str
    """The documentation page that describes it."""
    text: str
    """The whole file."""
    data: Mapping[str, Any]
    """Its parsed content."""

    def with_defaults(self, table: str) -> "TomlFile":
        """Returns the file with the values in `[defaults]` added to the entries of a table that do not set them."""
        data = dict(self.data)
        defaults, entries = data.pop("defaults", {}), data.get(table, [])
        if isinstance(defaults, dict) and isinstance(entries, list):
            data[table] = [{**defaults, **entry} if isinstance(entry, dict) else entry for entry in entries]
        return replace(self, data=data)

    def validate(self, model: type[_Model]) -> _Model:
        """Returns the content as a model.

        Raises:
            ConfigurationError: Fields are missing or invalid; the message names line, entry and field of each, and no
                values.
        """
        try:
            return model.model_validate(self.data)
        except ValidationError as error:
            found = error.errors(include_input=False, include_url=False)
        raise self.refused(
            ((*each["loc"], "kind") if each["type"].startswith("union_tag") else each["loc"],
             each["msg"].removeprefix("Value error, "))
            for each in found
        )  # fmt: skip

    def refused(self, problems: Iterable[tuple[Sequence[int | str], str]]) -> ConfigurationError:
        """Returns the error for invalid fields.

        Args:
            problems: For each field its path, such as `("zone", 0, "points")`, and what is wrong with it.
        """
        details = "; ".join(self._problem(location, message) for location, message in problems)
        return ConfigurationError(
            f"{self.name} is invalid. {details}.", next_step=f"correct the file; {self.page} lists the fields"
        )

    def _problem(self, location: Sequence[int | str], message: str) -> str:
        """Returns a problem with its place: `line 7: source "yard": fps: …`."""
        entries = self.data.get(str(location[0])) if location else None
        if len(location) < 2 or not isinstance(location[1], int) or not isinstance(entries, list):
            field = ".".join(map(str, location))
            return f"{self._line_of(field, None, '')}{field or 'file'}: {message}"
        table, number = str(location[0]), location[1]
        entry = entries[number] if isinstance(entries[number], dict) else {}
        name = entry.get("name", f"number {number + 1}")
        path = _fields(location[2:], entry)
        field = ".".join(map(str, path))
        line = self._line_of(table, number, str(path[0]) if path else "")
        return f'{line}{table} "{name}": {field}{": " if field else ""}{message}'

    def _line_of(self, table: str, number: int | None, field: str) -> str:
        """Returns `line 7: ` for a field of an entry, or for the entry if it has no such field."""
        seen, entry_line, header = -1, 0, ""
        for line, text in enumerate(self.text.splitlines(), start=1):
            if found := _HEADER.match(text):
                header = found[1]
                seen += header == table
                if header == table and seen == (number or 0):
                    entry_line = line
                is_wanted = header == f"{table}.{field}" and seen == number
            else:
                key = _KEY.match(text)
                inside = (header == table and seen == number, field) if number is not None else (not header, table)
                is_wanted = key is not None and inside == (True, key[1])
            if is_wanted:
                return f"line {line}: "
        return f"line {entry_line}: " if entry_line else ""


def _fields(location: Sequence[int | str], entry: Mapping[str, Any]) -> list[int | str]:
    """Returns the path to a field, without the tag that pydantic adds for the kind of the entry."""
    path = list(location)
    return path[1:] if path and path[0] == entry.get("kind") else path


def read_toml(path: Path, *, page: str) -> TomlFile:
    """Reads a TOML file.

    Args:
        page: The documentation page that describes it.

    Raises:
        ConfigurationError: The file does not exist, or is not TOML; the message names the line.
    """
    try:
        return parse_toml(path.read_text(encoding="utf-8"), name=str(path), page=page)
    except FileNotFoundError:
        raise ConfigurationError(f"There is no file {path}.", next_step=f"see {page} for an example") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}.", next_step="correct the file") from None


def parse_toml(text: str, *, name: str, page: str) -> TomlFile:
    """Parses the text of a TOML file; raises as `read_toml` does."""
    try:
        return TomlFile(name, page, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{name} cannot be read: {error}.", next_step="correct the file") from None
