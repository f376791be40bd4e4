"""`imgpipeline settings`: show the current values without secrets, and print the table of all settings for the docs."""

from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from imgpipeline.cli.options import JsonOption
from imgpipeline.cli.output import show_json, show_table, shown, write_text
from imgpipeline.settings import Settings, load_settings
from imgpipeline.settings.loading import unknown_settings
from imgpipeline.settings.variables import variables

app = typer.Typer(invoke_without_command=True, help="Show the current settings; of secrets, only whether they are set.")


@app.callback()
def show(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show the current settings; of secrets, only whether they are set."""
    if context.invoked_subcommand is not None:
        return
    settings = load_settings()
    rows = [(variables(name, field), getattr(settings, name), name) for name, field in Settings.model_fields.items()]
    if as_json:
        show_json({names[0]: _masked(value) for names, value, _ in rows})
        return
    given = settings.model_fields_set
    lines = [(names[0], shown(_masked(value)), "" if name in given else "default") for names, value, name in rows]
    lines += [(one.name, "", f"unknown; {one.nearest}?" if one.nearest else "unknown") for one in unknown_settings()]
    show_table(("setting", "value", ""), lines)


@app.command("table")
def table() -> None:
    """Print the table of all settings in Markdown, as in docs/operations.md."""
    write_text(settings_table())


def settings_table() -> str:
    """Returns the table of all settings in Markdown."""
    head = "| setting | default | what it is |\n|---|---|---|\n"
    return head + "".join(_row(name, field) for name, field in Settings.model_fields.items())


def _masked(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return "(set)"
    if isinstance(value, tuple):
        return ", ".join(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _row(name: str, field: FieldInfo) -> str:
    own, *others = (f"`{variable}`" for variable in variables(name, field))
    also = f"<br>also {', '.join(others)}" if others else ""
    limits = "; ".join(_limits(field))
    described = f"{field.description}{f' Allowed: {limits}.' if limits else ''}".replace("|", "\\|")
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
