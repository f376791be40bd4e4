"""The checks of `imgpipeline doctor`. They run in parallel with a time limit; a failure says what to do next."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import format_time, utc_now
from imgpipeline.errors import ImgpipelineError, LedgerError
from imgpipeline.settings import Settings

if TYPE_CHECKING:
    from imgpipeline.contracts.records import LogRange

LIMIT_S = 25.0
"""Time limit of the checks."""
STORE_PATIENCE_S = 5.0
"""How long an interactive diagnostic command retries a request to the object store."""
_SETTINGS_OF = {
    "Kafka": "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS",
    "object store": "IMGPIPELINE_STORE_URL and IMGPIPELINE_S3_ENDPOINT",
    "model": "IMGPIPELINE_MODEL and IMGPIPELINE_MODEL_BACKEND",
}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found."""

    name: str
    """What was checked, in a few words."""
    status: Literal["ok", "warning", "failed", "not checked"]
    """`warning`: works, but some setting has no effect. `not checked`: an earlier check failed."""
    message: str
    """The finding, or the problem."""
    next_step: str | None
    """What to do about it; None if nothing needs to be done."""
    took_s: float
    """How long the check took, in seconds."""


Check = Callable[[Settings], Iterator[tuple[str, str]]]
"""Yields the name of each check with its finding; raises an error if something is wrong."""


def run_checks(settings: Settings, checks: Mapping[tuple[str, ...], Check]) -> list[CheckResult]:
    """Runs checks in parallel.

    Args:
        settings: The settings to check.
        checks: Each check under the names that it yields, in order.

    Returns:
        The result of each name, in the order given.
    """
    answers: queue.Queue[tuple[tuple[str, ...], list[CheckResult]]] = queue.Queue()

    def run(names: tuple[str, ...], check: Check) -> None:
        answers.put((names, _run_one(settings, names, check)))

    for names, check in checks.items():
        # Daemon threads, so a check that hangs does not keep the command from ending.
        threading.Thread(target=run, args=(names, check), daemon=True).start()
    until = time.monotonic() + LIMIT_S
    found: dict[tuple[str, ...], list[CheckResult]] = {}
    while len(found) < len(checks) and (left := until - time.monotonic()) > 0:
        try:
            names, results = answers.get(timeout=left)
        except queue.Empty:
            break
        found[names] = results
    return [result for names in checks for result in found.get(names) or _silent(names)]


def _silent(names: tuple[str, ...]) -> list[CheckResult]:
    what, step = f"no answer within {LIMIT_S:g} s", f"check {_SETTINGS_OF.get(names[0], 'the settings')}"
    first = CheckResult(names[0], "failed", what, step, LIMIT_S)
    return [first, *(CheckResult(name, "not checked", f"needs {names[0]}", None, 0.0) for name in names[1:])]


def _run_one(settings: Settings, names: tuple[str, ...], check: Check) -> list[CheckResult]:
    results: list[CheckResult] = []
    began = time.monotonic()

    def add(status: Literal["ok", "failed", "not checked"], message: str, next_step: str | None = None) -> None:
        took_s = round(time.monotonic() - began, 3) if status != "not checked" else 0.0
        results.append(CheckResult(names[len(results)], status, message, next_step, took_s))

    try:
        for name, message in check(settings):
            assert name == names[len(results)]  # noqa: S101 - a check yields only its own names
            add("ok", message)
    except ImgpipelineError as error:
        add("failed", error.message, error.next_step)
    except Exception as error:  # noqa: BLE001 - the boundary of one check: recorded, and the others continue
        add("failed", f"{type(error).__name__}: {error}", "report this unexpected error")
    while len(results) < len(names):
        add("not checked", f"needs {names[len(results) - 1]}")
    return results


def check_kafka(settings: Settings) -> Iterator[tuple[str, str]]:
    """Checks that the broker accepts the login, and that the topics exist."""
    from imgpipeline.stream.connection import open_admin  # noqa: PLC0415 - loads kafka-python
    from imgpipeline.stream.log import ask_logs  # noqa: PLC0415 - as above

    with open_admin(settings) as admin:
        user = f" as {settings.kafka_username}" if settings.kafka_security_protocol.startswith("SASL") else ""
        yield "Kafka", f"{settings.kafka_bootstrap_servers} answers, {settings.kafka_security_protocol}{user}"
        logs = ask_logs(admin, settings)
        for why in logs.unreadable.values():
            raise why
        yield "topic", "; ".join(_describe_topic(topic, logs.ranges) for topic in settings.kafka_topics)


def check_detection(settings: Settings, lag_s: float | None = None) -> Iterator[tuple[str, str]]:
    """Checks Kafka, then that no partition stops, no run fails, and no unread record is older than `lag_s`."""
    from imgpipeline.detect.state import find_expired, read_state  # noqa: PLC0415 - `--help` does not wait for it
    from imgpipeline.ledger import find_current_end  # noqa: PLC0415 - as above
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore
    from imgpipeline.stream.fetch import find_oldest  # noqa: PLC0415 - loads kafka-python
    from imgpipeline.stream.log import read_log  # noqa: PLC0415 - as above

    yield from check_kafka(settings)
    store = open_store(settings, patience_s=STORE_PATIENCE_S)
    ends = {log: find_current_end(store, log.chain) for log in read_log(settings)}
    expired = {log: str(why) for log, end in ends.items() if (why := find_expired(log, end))}
    oldest = find_oldest(settings, {log: end.offset for log, end in ends.items() if log not in expired})
    problems, since, now = list(expired.values()), min(oldest.values(), default=None), utc_now()
    is_late = since is not None and lag_s is not None and (now - since).total_seconds() > lag_s
    waiting = f"the oldest unread record is from {format_time(since)}" if since else "no record waits"
    problems += [waiting] if is_late else []
    state = read_state(store)
    # While nothing waits, the sensor need not run. One that has never run may be about to be started.
    if is_late or state.is_recent(now) or (since and state.at):
        problems += state.problems(now)
    if problems:
        raise LedgerError("; ".join(dict.fromkeys(problems)))
    yield "detection", waiting


def _describe_topic(topic: str, logs: "Sequence[LogRange]") -> str:
    own = [log for log in logs if log.topic == topic]
    records = sum(log.log_end - log.log_start for log in own)
    return f"{topic}: {counted(len(own), 'partition')}, {counted(records, 'offset')}"


def check_object_store(settings: Settings) -> Iterator[tuple[str, str]]:
    """Checks that the store can be written and read, and that one of several create-only writers wins."""
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore
    from imgpipeline.objectstore.client import check_store  # noqa: PLC0415 - as above

    check_store(open_store(settings, patience_s=STORE_PATIENCE_S))
    yield "object store", f"{settings.store_url} can be listed, written and read; create-only writes work"


def check_model(settings: Settings) -> Iterator[tuple[str, str]]:
    """Checks that the model's file exists and is complete, and that the network runs on a known image."""
    from imgpipeline.vision.configured import describe_use, load_configured_detector  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.vision.detector import self_test  # noqa: PLC0415 - as above

    detector = load_configured_detector(settings)
    self_test(detector)
    members = (f"{one.model_name} ({one.model_sha256[:12]}) {describe_use(one)}" for one in detector.members)
    yield "model", "\n".join(members)


def check_duckdb(settings: Settings) -> Iterator[tuple[str, str]]:  # noqa: ARG001 - every check takes the settings
    """Checks that DuckDB computes and returns times."""
    import duckdb  # noqa: PLC0415 - `--help` does not wait for it

    with duckdb.connect() as connection:
        row = connection.execute("SELECT sum(x), max(TIMESTAMPTZ '2026-01-09 12:00Z') FROM range(5) t(x)").fetchone()
        if row is None or row[0] != 10:
            raise RuntimeError(f"DuckDB answers {row}")
    yield "DuckDB", f"version {duckdb.__version__} computes"


def check_rules(settings: Settings) -> Iterator[tuple[str, str]]:
    """Checks that the rules are valid, that their alerts can be sent, and that each name they notify has a target."""
    from imgpipeline.events.alerts.targets import check_names, read_targets  # noqa: PLC0415 - loads apprise
    from imgpipeline.events.configuration import Rules, read_rules  # noqa: PLC0415 - loads pydantic models
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    rules = read_rules(settings, open_store(settings, patience_s=STORE_PATIENCE_S)) if settings.rules_file else Rules()
    yield "rules", f"{counted(len(rules.rule), 'rule')}; IMGPIPELINE_RULES_FILE is {settings.rules_file or 'not set'}"
    targets = read_targets(settings)
    check_names(targets, rules)
    yield "alert targets", f"{counted(len(targets), 'target')}; `imgpipeline alerts test` sends a message to each"


def check_camera(
    settings: Settings,  # noqa: ARG001 - every check takes the settings
    url: str,
    credentials: str | None,
) -> Iterator[tuple[str, str]]:
    """Checks that a camera delivers frames by RTSP."""
    from imgpipeline.sources.rtsp import probe, read_address  # noqa: PLC0415 - loads NumPy

    yield read_address(url).shown, probe(url, credentials)


CHECKS: Mapping[tuple[str, ...], Check] = {
    ("Kafka", "topic", "detection"): check_detection,
    ("object store",): check_object_store,
    ("model",): check_model,
    ("DuckDB",): check_duckdb,
    ("rules", "alert targets"): check_rules,
}
"""All checks, in display order."""
