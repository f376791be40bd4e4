"""Prepares a detection run: loads the detector, opens the store, and finds where each partition of the lane continues.

A run may end at any point without losing or duplicating anything: the next run continues at the ends of the chains and
reports again what may not have been reported. `run` does the work.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from imgpipeline.contracts.times import Clock, utc_now
from imgpipeline.detect.report import LaneReport
from imgpipeline.detect.resume import resume_chain
from imgpipeline.detect.run import LaneRun, Report
from imgpipeline.detect.workers import Flow
from imgpipeline.errors import TransientError
from imgpipeline.faultpoints import reach
from imgpipeline.ledger import Provenance
from imgpipeline.objectstore import open_store
from imgpipeline.objectstore.probe import check_store
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import kafka_errors, open_admin
from imgpipeline.stream.diagnosis import UnreachableBrokerError
from imgpipeline.stream.lanes import Lane, partitions_of
from imgpipeline.stream.log import ask_logs, open_group
from imgpipeline.vision.configured import load_configured_detector

_log = logging.getLogger(__name__)
_RESUMED_AT_ONCE = 8


def follow_lane(
    settings: Settings,
    lane: Lane,
    *,
    run_id: str,
    report: Report,
    stop: threading.Event | None = None,
    careful: bool = False,
    limit: int | None = None,
    clock: Clock = utc_now,
) -> LaneReport:
    """Follows a lane until it is idle for `linger_s`, for at most `max_run_s`, or until it is stopped.

    Args:
        settings: Name broker, store and model, and the limits.
        lane: Selects the partitions to follow.
        run_id: Written into every segment.
        report: Called in the calling thread, every few seconds while segments are put and at the end.
        stop: Set it to make the run commit finished outcomes and end within about 5 s.
        careful: Process record by record in a child process, to find the record that killed earlier runs; the run ends
            when it is found.
        limit: Maximum number of records; None: no limit.
        clock: Tells the time.

    Returns:
        The last report.

    Raises:
        ConfigurationError: A setting is wrong: store, broker, topic or model.
        LedgerError: The log is not the one that its chain was built from, a segment is damaged, or records of all
            partitions expired unread. If those of some did, these partitions are left out.
        PermanentError: The model is damaged, or the self-test failed.
        TransientError: Store or broker do not answer, or the topic was re-created.
    """
    detector = load_configured_detector(settings)
    store = open_store(settings)
    check_store(store)
    use = detector.use
    made_by = Provenance(use.model_name, use.model_sha256, settings.results_hash(), run_id, use.precision)
    with open_admin(settings) as admin, open_group(settings) as group:
        found = ask_logs(admin, settings)
        for why in found.unreadable.values():
            _log.warning("A topic is left out: %s", why)
        logs = {log.at: log for log in found.ranges}
        followed = {at: logs[at] for at in partitions_of(lane, logs, settings.kafka_topics)}
        with ThreadPoolExecutor(_RESUMED_AT_ONCE) as pool:
            ends = pool.map(lambda log: resume_chain(settings, store, log), followed.values())
            resumed = dict(zip(followed, ends, strict=True))
        lost = {at: one.lost for at, one in resumed.items() if one.lost}
        for why in lost.values():
            if len(lost) == len(resumed):
                raise why
            _log.warning("A partition is left out: %s", why)
        flow = Flow(stop or threading.Event(), dropped=set(lost))
        run = LaneRun(settings, store, admin, group, made_by, report, clock, flow, lane, followed, careful, limit)
        reach("run begin", ",".join(settings.kafka_topics))
        with _losing_the_broker_is_transient(settings):
            run.begin(resumed)
            return run.work(detector, {at: r.position for at, r in resumed.items()})


@contextlib.contextmanager
def _losing_the_broker_is_transient(settings: Settings) -> Iterator[None]:
    """Makes the error of an unreachable broker transient, since the broker was reachable when the run started."""
    try:
        with kafka_errors(settings):
            yield
    except UnreachableBrokerError as error:
        raise TransientError(
            f"This run has lost its broker: {error.message}", next_step="nothing, once the broker is back"
        ) from error
