"""The sensor `keep_tables_current` with a clock of its own, and runs of its requests in the test process."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from imgpipeline.definitions import defs
from imgpipeline.defs.keep_tables import LOOK_EVERY_S, TableKeeper
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import load_settings


class Keeping:
    """A code server's sensor; `later_s` is how far its clock is ahead."""

    def __init__(self, store: ObjectStore, instance: dg.DagsterInstance) -> None:
        self.store, self.instance, self.later_s = store, instance, 0.0
        self.keeper = TableKeeper(monotonic=self._seconds)

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.later_s)

    def _seconds(self) -> float:
        return self.now.timestamp()

    def tick(self, *, after_s: float = LOOK_EVERY_S) -> list[dg.RunRequest] | dg.SkipReason:
        self.later_s += after_s
        return self.keeper.tick(self.instance, load_settings(), self.store, self.now)

    def requests(self, *, after_s: float = LOOK_EVERY_S) -> list[dg.RunRequest]:
        answer = self.tick(after_s=after_s)
        return [] if isinstance(answer, dg.SkipReason) else answer

    def skip_message(self, *, after_s: float = LOOK_EVERY_S) -> str:
        answer = self.tick(after_s=after_s)
        assert isinstance(answer, dg.SkipReason), answer
        return str(answer.skip_message)

    def run(self, requests: Sequence[dg.RunRequest]) -> list[dg.ExecuteInProcessResult]:
        """Execute requests as the daemon would launch them."""
        return list(self._run(requests))

    def _run(self, requests: Sequence[dg.RunRequest]) -> Iterator[dg.ExecuteInProcessResult]:
        job = defs.resolve_job_def("rebuild_days")
        for request in requests:
            yield job.execute_in_process(
                instance=self.instance, tags=dict(request.tags), raise_on_error=False,
                asset_selection=list(request.asset_selection or ()),
            )  # fmt: skip


def assets_of(request: dg.RunRequest) -> set[str]:
    return {key.to_user_string() for key in request.asset_selection or ()}


def days_of(request: dg.RunRequest) -> tuple[str, str]:
    """Return the first and the last day of a request."""
    one = request.tags.get("dagster/partition", "")
    names = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    return request.tags.get(names[0], one), request.tags.get(names[1], one)


def announce(instance: dg.DagsterInstance, *days: date) -> None:
    """A detection run reports days."""
    for day in days:
        instance.report_runless_asset_event(dg.AssetMaterialization("frame_metadata", partition=day.isoformat()))
