"""The recipes of the tables that rules make, without the rules. Reading them loads neither the rules nor OpenCV."""

from hashlib import sha256

from imgpipeline.lake.schema.events import EVENT_SCHEMA_VERSION, EVENTS, FRAME_CHANGES
from imgpipeline.settings import Settings

COMPARISON_VERSION = 1
"""Part of the recipe; raised when the same images give other differences."""
EVALUATION_VERSION = 1
"""Part of the recipe; raised when the same frames give other events."""
COUNTING_VERSION = 1
"""Part of the recipe; raised when the same frames give other counts at zones and lines."""


def events_recipe(table: str, settings: Settings) -> str:
    """Returns the hash of all that makes a table but its inputs and the rules, 16 hexadecimal digits.

    The rules are left out: they may change while the code location runs, and days that are over keep theirs.

    Args:
        table: Name of a table that rules make.
        settings: The time zone in which rules apply by the hour.
    """
    versions: dict[str, tuple[object, ...]] = {
        FRAME_CHANGES.name: (COMPARISON_VERSION,),
        EVENTS.name: (EVALUATION_VERSION, COMPARISON_VERSION, settings.timezone),
    }
    parts = (EVENT_SCHEMA_VERSION, table, versions.get(table, (COUNTING_VERSION,)))
    return sha256(repr(parts).encode()).hexdigest()[:16]
