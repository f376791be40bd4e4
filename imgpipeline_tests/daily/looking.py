"""What `day_states` says about the tables of days, for tests of what makes them stale."""

from datetime import date

from imgpipeline.contracts.times import utc_now
from imgpipeline.daily.objects import TABLES
from imgpipeline.daily.states import day_states
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings


def stale_days(store: ObjectStore) -> list[date]:
    """Return the days whose tables are missing, damaged, or older than the ledger."""
    states = day_states(store, Settings(), now=utc_now())
    return [day for day, found in states.items() if found[TABLES].state.is_behind]
