"""Parses Darknet's cfg files into sections of options; `network` interprets the options."""

import math
from dataclasses import dataclass

from imgpipeline.errors import PermanentError


@dataclass(frozen=True, slots=True)
class Section:
    """One section of a cfg file, with typed access to its options."""

    kind: str
    """Name in the brackets, such as `convolutional`."""
    number: int
    """Layer number as Darknet counts: from 0, without the first section `[net]`, which has -1."""
    options: dict[str, str]
    """Option values as written, by name."""

    def whole(self, name: str, default: int) -> int:
        """Reads an option as a whole number.

        Args:
            name: The option.
            default: Its value if it is not given.

        Returns:
            The number.

        Raises:
            PermanentError: It is not a whole number.
        """
        return self.wholes(name, str(default), count=1)[0]

    def wholes(self, name: str, default: str = "", *, count: int | None = None) -> tuple[int, ...]:
        """Reads an option as whole numbers with commas between them.

        Args:
            name: The option.
            default: Its text if it is not given.
            count: How many there have to be; None: any number.

        Returns:
            The numbers.

        Raises:
            PermanentError: They are not whole numbers, or not as many as expected.
        """
        text = self.options.get(name, default)
        try:
            numbers = tuple(int(part) for part in text.split(",") if part.strip())
        except ValueError as error:
            raise self.error(f"option {name} is {text!r}", "whole numbers") from error
        if count is not None and len(numbers) != count:
            raise self.error(f"option {name} is {text!r}", f"{count} whole number(s)")
        return numbers

    def real(self, name: str, default: float) -> float:
        """Reads an option as a number.

        Args:
            name: The option.
            default: Its value if it is not given.

        Returns:
            The number.

        Raises:
            PermanentError: It is not a finite number.
        """
        text = self.options.get(name)
        try:
            number = default if text is None else float(text)
        except ValueError as error:
            raise self.error(f"option {name} is {text!r}", "a number") from error
        if not math.isfinite(number):
            raise self.error(f"option {name} is {text!r}", "a finite number")
        return number

    def error(self, actual: str, expected: str) -> PermanentError:
        """Makes the error for something that is wrong with this section.

        Args:
            actual: What it has.
            expected: What it should have.

        Returns:
            The error, naming the layer; to be raised by the caller.
        """
        where = f"layer {self.number} [{self.kind}]" if self.number >= 0 else f"section [{self.kind}]"
        return PermanentError(
            f"Darknet cfg, {where}: {actual}; expected {expected}.",
            next_step="only networks of the yolov3-tiny and yolov4-tiny family can be converted",
        )


def parse_cfg(text: str) -> list[Section]:
    """Splits a cfg file into its sections.

    Args:
        text: The file's text.

    Returns:
        The sections in order; the first is `[net]`.

    Raises:
        PermanentError: A line is neither section, option nor comment, or the file does not begin with `[net]`.
    """
    sections: list[Section] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.split("#", 1)[0].split(";", 1)[0].strip()
        if not line:
            continue
        if line.startswith("[") and line.endswith("]"):
            sections.append(Section(line[1:-1].strip(), len(sections) - 1, {}))
            continue
        name, equals, value = line.partition("=")
        if not equals or not sections:
            raise _unreadable(f"line {number} is {line[:80]!r}; expected [section] or name=value inside of one")
        sections[-1].options[name.strip()] = value.strip()
    if len(sections) < 2 or sections[0].kind not in ("net", "network"):
        found = f"[{sections[0].kind}]" if sections else "nothing"
        raise _unreadable(f"it begins with {found} and has {len(sections)} sections; expected [net] and layers")
    return sections


def _unreadable(what: str) -> PermanentError:
    return PermanentError(f"Darknet cfg: {what}.", next_step="check that this is the model's .cfg file")
