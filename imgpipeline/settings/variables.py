"""How settings are named in the environment."""

from pydantic import AliasChoices
from pydantic.fields import FieldInfo

PREFIX = "IMGPIPELINE_"
"""Begins the name of every variable of this project."""


def either(name: str, *others: str) -> AliasChoices:
    """Returns the names of a setting that is also read from variables of other tools, such as `AWS_REGION`."""
    return AliasChoices(PREFIX + name, *others)


def variables(name: str, field: FieldInfo) -> list[str]:
    """Returns the environment variables of a setting, the project's own first."""
    if isinstance(field.validation_alias, AliasChoices):
        return list(dict.fromkeys(str(choice) for choice in field.validation_alias.choices))
    return [PREFIX + name.upper()]


def split_list(value: object) -> object:
    """Splits a text at its commas; returns any other value as it is."""
    return tuple(v.strip() for v in value.split(",") if v.strip()) if isinstance(value, str) else value
