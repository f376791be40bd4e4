"""The recipes of the tables that rules make: hashes of everything that determines their rows except their inputs.

Importing this module does not load the rules, OpenCV or pyarrow.
"""

import json
from hashlib import sha256
from typing import TYPE_CHECKING

from imgpipeline.lake.schema.accuracy import ACCURACY, ACCURACY_SCHEMA_VERSION
from imgpipeline.lake.schema.events import EVENT_SCHEMA_VERSION, EVENTS, FRAME_CHANGES
from imgpipeline.settings import Settings

if TYPE_CHECKING:
    from imgpipeline.events.configuration import Line, Rule, Rules, Zone

COMPARISON_VERSION = 1
"""Raised when the same images give different comparisons."""
EVALUATION_VERSION = 1
"""Raised when the same frames give different events."""
COUNTING_VERSION = 1
"""Raised when the same frames give different counts at zones and lines."""


def events_recipe(table: str, settings: Settings) -> str:
    """Returns the code version of a table's asset, 16 hexadecimal digits.

    It does not cover the rules: they may change while the code location runs, and past days keep theirs.
    """
    versions: dict[str, tuple[object, ...]] = {
        FRAME_CHANGES.name: (COMPARISON_VERSION,),
        EVENTS.name: (EVALUATION_VERSION, COMPARISON_VERSION, settings.timezone),
    }
    parts = (EVENT_SCHEMA_VERSION, table, versions.get(table, (COUNTING_VERSION,)))
    return sha256(repr(parts).encode()).hexdigest()[:16]


def rule_recipe(rules: "Rules", rule: "Rule", settings: Settings) -> str:
    """Returns the hash of a rule, its zone or line, and the version of the code that evaluates it."""
    place = rules.place_of(rule)
    zone = settings.timezone if rule.hours else None
    evaluated = rule.model_dump(exclude={"notify"})  # the targets do not change any event
    return hash_of(EVALUATION_VERSION, evaluated, place.model_dump() if place else None, zone)


def accuracy_recipe(settings: Settings) -> str:
    """Returns the hash of everything but the inputs that determines the table `accuracy`."""
    return hash_of(ACCURACY_SCHEMA_VERSION, COUNTING_VERSION, ACCURACY.names, settings.summary_threshold)


def place_recipe(place: "Zone | Line") -> str:
    """Returns the hash of a zone or line, and of the version of the code that counts at it."""
    return hash_of(COUNTING_VERSION, place.model_dump())


def hash_of(*parts: object) -> str:
    """Returns a hash of values whose text is the same in every process, 16 hexadecimal digits."""
    return sha256(json.dumps(parts, default=str, sort_keys=True).encode()).hexdigest()[:16]
