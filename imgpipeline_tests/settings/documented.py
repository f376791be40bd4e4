"""The table of all settings in docs/operations.md; `python -m imgpipeline_tests.settings.documented` rewrites it."""

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from imgpipeline.settings import Settings
from imgpipeline.settings.variables import variables

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
BEGIN, END = "<!-- settings: begin -->\n", "<!-- settings: end -->"


def settings_table() -> str:
    """Returns the table of all settings in Markdown."""
    head = "| setting | default | what it is |\n|---|---|---|\n"
    return head + "".join(_row(name, field) for name, field in Settings.model_fields.items())


def _row(name: str, field: FieldInfo) -> str:
    own, *others = (f"`{variable}`" for variable in variables(name, field))
    also = f"<br>also {', '.join(others)}" if others else ""
    limits = "; ".join(_limits(field))
    text = " ".join((field.description or "").split())
    described = f"{text}{f' Allowed: {limits}.' if limits else ''}".replace("|", "\\|")
    return f"| {own}{also} | {_default(field)} | {described} |\n"


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined or field.default is None or field.default == ():
        return ""
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    if isinstance(field.default, tuple):
        return f"`{','.join(field.default)}`"
    return f"`{field.default:g}`" if isinstance(field.default, float) else f"`{field.default}`"


def _limits(field: FieldInfo) -> Iterator[str]:
    kinds = get_args(field.annotation) if get_origin(field.annotation) in (Union, UnionType) else (field.annotation,)
    for kind in kinds:
        if get_origin(kind) is Literal:
            yield ", ".join(f"`{choice}`" for choice in get_args(kind))
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [
        f"{sign} {getattr(limit, attribute):g}"
        for limit in field.metadata
        for attribute, sign in signs.items()
        if getattr(limit, attribute, None) is not None
    ]
    if bounds:
        yield " and ".join(bounds)


def main() -> None:
    """Puts the table between its markers on the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}{settings_table()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
