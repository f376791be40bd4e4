"""Builds that die at a chosen moment."""

import pytest

from imgpipeline.lake.days import derived
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.ledger.samples import DAY, NOON


class DiedError(Exception):
    """The process ended here."""


def die_after_frames(store: ObjectStore, *_: object) -> None:
    """Build the day and die after storing `frames`, before `detections`."""
    _die_after(1, store)


def die_after_detections(store: ObjectStore, *_: object) -> None:
    """Build the day and die after storing `detections`, before `dead_letters`."""
    _die_after(2, store)


def _die_after(puts: int, store: ObjectStore) -> None:
    put, calls = derived.publish, []

    def die(*arguments):
        calls.append(1)
        if len(calls) > puts:
            raise DiedError
        return put(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(derived, "publish", die)
        with pytest.raises(DiedError):
            rebuild_day(store, DAY, now=NOON, force=True)
