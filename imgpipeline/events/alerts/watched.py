"""Records which rules each watch used, so that an audit can tell which events should have raised an alert."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from imgpipeline.contracts.keys import WATCHED
from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.events.configuration import Rules
from imgpipeline.events.recipe import rule_recipe
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.numbered import append_entry, read_entries
from imgpipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class WatchedRules:
    """The rules that watches used from a point in time."""

    since: datetime
    """Start of the first watch with these rules, UTC."""
    recipes: Mapping[str, str]
    """Hash of each rule and its zone or line, by rule name."""
    max_age_s: float
    """Maximum age of events that raised an alert, in seconds."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "WatchedRules":
        """Reads what `note_watched` wrote."""
        return cls(parse_time(data["since"]), dict(data["recipes"]), float(data["max_age_s"]))


def recipes_of(rules: Rules, settings: Settings) -> dict[str, str]:
    """Returns the hash of each rule and its zone or line, by rule name."""
    return {rule.name: rule_recipe(rules, rule, settings) for rule in rules.rule}


def note_watched(store: ObjectStore, rules: Rules, settings: Settings, *, now: datetime) -> None:
    """Records the rules of a watch at its start, unless the last record is the same.

    Raises:
        PermanentError: A record is damaged.
        TransientError: The store does not answer.
    """
    recipes = recipes_of(rules, settings)
    known = read_watched(store)
    if known and (known[-1].recipes, known[-1].max_age_s) == (recipes, settings.alert_max_age_s):
        return
    content = {"since": format_time(now), "recipes": recipes, "max_age_s": settings.alert_max_age_s}
    append_entry(store, WATCHED, content)


def read_watched(store: ObjectStore) -> list[WatchedRules]:
    """Returns all records, oldest first.

    Raises:
        PermanentError: A record is damaged.
        TransientError: The store does not answer.
    """
    return [WatchedRules.from_json(entry) for entry in read_entries(store, WATCHED)]


def watched_at(known: Sequence[WatchedRules], at: datetime) -> WatchedRules | None:
    """Returns the rules that watches used at a time; None before the first watch."""
    return next((each for each in reversed(known) if each.since <= at), None)


def is_watched(known: Sequence[WatchedRules], name: str, recipe: str, at: datetime, seconds: float) -> bool:
    """Whether watches used a rule with this recipe during the whole time from `at` for `seconds`."""
    until = at + timedelta(seconds=seconds)
    first = watched_at(known, at)
    of_the_time = [*([first] if first else []), *(each for each in known if at < each.since <= until)]
    return first is not None and all(each.recipes.get(name) == recipe for each in of_the_time)
