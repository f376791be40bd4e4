"""Where the rules are that make events."""

from pydantic import Field
from pydantic_settings import BaseSettings


class EventSettings(BaseSettings):
    """Events."""

    rules_file: str | None = Field(
        None,
        description="Path of `rules.toml`, or `store` for the one that `imgpipeline rules put` has stored. Unset: no "
        "rules, and no events are built.",
    )
