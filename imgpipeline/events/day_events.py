"""The table `events`: what the rules found in a day, with its evidence.

Each rule is evaluated only if it, its zone or line, or one of its tables has changed; the events of the other rules are
taken over. The images of changes are stored next to the table, by the event's id.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import fields

from imgpipeline.contracts.times import find_timezone
from imgpipeline.events.configuration import ImageChangeRule, Rule, Rules
from imgpipeline.events.day_of_rules import DayOfRules, Row, hash_of
from imgpipeline.events.difference_images import store_difference
from imgpipeline.events.evaluate import evaluate_changes, evaluate_objects
from imgpipeline.events.frame_changes import read_changes
from imgpipeline.events.recipe import EVALUATION_VERSION
from imgpipeline.events.seen_frames import TRACKED, read_frames
from imgpipeline.events.values import Event
from imgpipeline.lake.build.summary_inputs import Inputs
from imgpipeline.lake.schema import DETECTIONS, FRAMES
from imgpipeline.lake.schema.events import EVENT_SCHEMA_VERSION, EVENTS, FRAME_CHANGES
from imgpipeline.lake.storage.manifest import Stored
from imgpipeline.settings import Settings

_PART = "rule "
_EVALUATED = "evaluated_rules"
_OBJECT_TABLES = (FRAMES.name, DETECTIONS.name)


def rule_recipe(rules: Rules, rule: Rule, settings: Settings) -> str:
    """Returns the hash of a rule with the zone or line that it reads, and of the code that evaluates it."""
    place = rules.place_of(rule)
    zone = settings.timezone if rule.hours else None
    evaluated = rule.model_dump(exclude={"notify"})  # who is notified changes no event
    return hash_of(EVALUATION_VERSION, evaluated, place.model_dump() if place else None, zone)


class DayEvents(DayOfRules):
    """A day's events, as an entry of the contract."""

    table = EVENTS

    def inputs(self, rules: Rules, /) -> tuple[str, ...]:
        """Returns the tables that the rules read; without rules the frames, so that the table has their ends."""
        changes = (FRAME_CHANGES.name,) if any(isinstance(rule, ImageChangeRule) for rule in rules.rule) else ()
        is_about_objects = any(not isinstance(rule, ImageChangeRule) for rule in rules.rule)
        return (*(_OBJECT_TABLES if is_about_objects else (FRAMES.name,)), *changes)

    def track_inputs(self, rules: Rules, /) -> tuple[str, ...]:
        """Returns the tables of tracks, if a rule follows single objects."""
        return TRACKED if any(rule.reads == "track_points" for rule in rules.rule) else ()

    def recipe(self, rules: Rules, /) -> str:
        """Returns the hash of all rules with what they read; zones that no rule reads are not part of it."""
        return hash_of(
            EVENT_SCHEMA_VERSION, {rule.name: rule_recipe(rules, rule, self.settings) for rule in rules.rule}
        )

    def rows(self, inputs: Inputs, rules: Rules, stored: Stored | None, /) -> tuple[list[Row], dict[str, str]]:
        """Returns the events of all rules by time, and a hash for each rule of what made its events."""
        parts = {f"{_PART}{rule.name}": self._part(inputs, rules, rule) for rule in rules.rule}
        known: dict[str, list[Row]] = defaultdict(list)
        for row in self.stored_rows(inputs.engine, stored):
            known[row["rule"]].append(row)
        rows: list[Row] = []
        evaluated: list[str] = []
        for rule in rules.rule:
            part = f"{_PART}{rule.name}"
            if stored and stored.manifest.made_with.get(part) == parts[part]:
                rows += known[rule.name]
            else:
                rows += self._rows_of(self._evaluate(inputs, rules, rule))
                evaluated.append(rule.name)
        rows.sort(key=lambda row: (row["timestamp"], row["event_id"]))
        return rows, {**parts, _EVALUATED: "\n".join(sorted(evaluated))}

    def _part(self, inputs: Inputs, rules: Rules, rule: Rule) -> str:
        tables: tuple[str, ...] = (FRAME_CHANGES.name,) if isinstance(rule, ImageChangeRule) else _OBJECT_TABLES
        tables += TRACKED if rule.reads == "track_points" else ()
        return hash_of(rule_recipe(rules, rule, self.settings), [inputs.versions[table] for table in tables])

    def _evaluate(self, inputs: Inputs, rules: Rules, rule: Rule) -> list[Event]:
        zone = find_timezone(self.settings.timezone)
        if isinstance(rule, ImageChangeRule):
            return evaluate_changes(rule, read_changes(inputs.engine), zone)
        chosen = (rules.sources_of(rule), rule.labels, rule.min_confidence)
        frames = read_frames(inputs.engine, *chosen, with_tracks=rule.reads == "track_points")
        return evaluate_objects(rules, rule, frames, zone)

    def _rows_of(self, events: Iterable[Event]) -> list[Row]:
        """Returns the rows of events; stores the image of the difference where two images were compared."""
        names = [each.name for each in fields(Event)]
        return [
            {
                **{name: getattr(event, name) for name in names},
                "event_id": event.event_id,
                "difference_image": store_difference(self.store, self.settings, event),
            }
            for event in events
        ]
