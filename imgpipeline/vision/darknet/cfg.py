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
        """Returns an option that is a whole number, or the default; raises PermanentError if it is something else."""
        return self.wholes(name, str(default), count=1)[0]

    def wholes(self, name: str, default: str = "", *, count: int | None = None) -> tuple[int, ...]:
        """Returns an option that is a comma-separated list of whole numbers.

        Args:
            name: The option.
            default: Its text if it is not set.
            count: The required number of values; None: any.

        Raises:
            PermanentError: They are not whole numbers, or not as many as required.
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
        """Returns an option that is a finite number, or the default; raises PermanentError if it is something else."""
        text = self.options.get(name)
        try:
            number = default if text is None else float(text)
        except ValueError as error:
            raise self.error(f"option {name} is {text!r}", "a number") from error
        if not math.isfinite(number):
            raise self.error(f"option {name} is {text!r}", "a finite number")
        return number

    def error(self, actual: str, expected: str) -> PermanentError:
        """Returns the error for this section, with its layer number.

        Args:
            actual: What was found.
            expected: What was expected.
        """
        where = f"layer {self.number} [{self.kind}]" if self.number >= 0 else f"section [{self.kind}]"
        return PermanentError(
            f"Darknet cfg, {where}: {actual}; expected {expected}.",
            next_step="only networks of the yolov3-tiny and yolov4-tiny family can be converted",
        )


def parse_cfg(text: str) -> list[Section]:
    """Splits the text of a cfg file into its sections; the first is `[net]`.

    Raises:
        PermanentError: A line is not a section, option or comment, or the file does not begin with `[net]`.
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
