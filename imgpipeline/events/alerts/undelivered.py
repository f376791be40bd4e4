"""Judges whether alerts reach their targets."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from imgpipeline.contracts.text import counted
from imgpipeline.events.alerts.chain import read_alert
from imgpipeline.events.alerts.delivery import next_attempt_at, read_attempts, undelivered_numbers
from imgpipeline.events.alerts.targets import read_targets
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

_READ = 50
"""The attempts of this many alerts are read, the oldest first; the others usually fail for the same reasons."""
_UNTRIED_LIMIT = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Undelivered:
    """The alerts that some target lacks."""

    numbers: tuple[int, ...]
    """Their numbers, sorted."""
    late: tuple[int, ...]
    """Those that a target has refused, or whose delivery was not attempted within a minute."""
    retry_at: datetime | None
    """When the next of them is due, UTC; None if there is none."""
    said: str
    """The answer, for a person."""


def find_undelivered(store: ObjectStore, settings: Settings, *, now: datetime) -> Undelivered:
    """Finds the alerts that some target lacks; without targets there are none.

    Args:
        store: The object store.
        settings: The targets.
        now: The clock, UTC.

    Raises:
        ConfigurationError: A target is no URL that apprise knows.
        PermanentError: A stored object is damaged, or numbers are missing.
        TransientError: The store does not answer.
    """
    if not read_targets(settings):
        return Undelivered((), (), None, "IMGPIPELINE_ALERT_TARGETS is not set: alerts are written, and not sent.")
    numbers = undelivered_numbers(store)
    late, due = [], []
    for number in numbers[:_READ]:
        attempts = read_attempts(store, number)
        due_at = next_attempt_at(attempts)
        raised_at = None if due_at else read_alert(store, number).raised_at
        due.append(due_at or now)
        if raised_at is None or now - raised_at > _UNTRIED_LIMIT:
            late.append(number)
    return Undelivered(tuple(numbers), tuple(late), min(due, default=None), _said(numbers, late))


def _said(numbers: list[int], late: list[int]) -> str:
    if not numbers:
        return "Every target has every alert."
    if not late:
        return f"{counted(len(numbers), 'alert')} will be delivered next."
    return (
        f"{counted(len(numbers), 'alert')} not delivered to every target, such as alert {late[0]}; tried again later. "
        f"`imgpipeline alerts show {late[0]} --json` lists the attempts; `imgpipeline alerts test` tests the targets."
    )
