"""`imgpipeline doctor`, `health` and `settings`: do Kafka, the store, the model and the cameras work, and if not, why?

The checks run in parallel with a time limit; a failure says what to do next.
"""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.error import HTTPError
from urllib.request import urlopen

import typer
from pydantic import SecretStr
from rich.table import Table
from rich.text import Text

from imgpipeline import __version__
from imgpipeline.cli.options import STORE_PATIENCE_S, CredentialsEnvOption, CredentialsFileOption, JsonOption
from imgpipeline.cli.output import note, show_json, show_table, shown, stdout_console
from imgpipeline.contracts.records import LogRange
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import format_time, utc_now
from imgpipeline.errors import ConfigurationError, ImgpipelineError, LedgerError
from imgpipeline.settings import Settings, load_settings
from imgpipeline.settings.loading import unknown_settings
from imgpipeline.settings.sizes import advise
from imgpipeline.settings.variables import variables

LIMIT_S = 25.0
"""Time limit of the checks."""
_MOST_SKEW_S = 10.0
"""Difference of two clocks that needs no warning."""
_SETTINGS_OF = {
    "Kafka": "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS",
    "object store": "IMGPIPELINE_STORE_URL and IMGPIPELINE_S3_ENDPOINT",
    "model": "IMGPIPELINE_MODEL and IMGPIPELINE_MODEL_BACKEND",
}


Status = Literal["ok", "warning", "failed", "not checked"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found."""

    name: str
    status: Status
    """`warning`: works, but something should be changed. `not checked`: an earlier check failed."""
    message: str
    next_step: str | None
    """None if nothing needs to be done."""
    took_s: float


Finding = tuple[str, str] | tuple[str, str, str]
"""The name of a check, what it found, and for a warning what to do."""
Check = Callable[[Settings], Iterator[Finding]]
"""Yields a finding of each check; raises an error if something is wrong."""


def run_checks(settings: Settings, checks: Mapping[tuple[str, ...], Check]) -> list[CheckResult]:
    """Runs checks in parallel, each under the names that it yields. Returns the result of each name, in this order."""
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

    def add(status: Status, message: str, next_step: str | None = None) -> None:
        took_s = round(time.monotonic() - began, 3) if status != "not checked" else 0.0
        results.append(CheckResult(names[len(results)], status, message, next_step, took_s))

    try:
        for name, message, *steps in check(settings):
            assert name == names[len(results)]  # noqa: S101 - a check yields only its own names
            add("warning" if steps else "ok", message, "; ".join(steps) or None)
    except ImgpipelineError as error:
        add("failed", error.message, error.next_step)
    except Exception as error:  # noqa: BLE001 - the boundary of one check: recorded, and the others continue
        add("failed", f"{type(error).__name__}: {error}", "report this unexpected error")
    while len(results) < len(names):
        add("not checked", f"needs {names[len(results) - 1]}")
    return results


def check_kafka(settings: Settings) -> Iterator[Finding]:
    """Checks that the broker accepts the login, that the topics exist, and that the settings suit their partitions."""
    from imgpipeline.stream.connection import open_admin
    from imgpipeline.stream.log import ask_logs

    with open_admin(settings) as admin:
        user = f" as {settings.kafka_username}" if settings.kafka_security_protocol.startswith("SASL") else ""
        yield "Kafka", f"{settings.kafka_bootstrap_servers} answers, {settings.kafka_security_protocol}{user}"
        logs = ask_logs(admin, settings)
        for why in logs.unreadable.values():
            raise why
        described = "; ".join(_describe_topic(topic, logs.ranges) for topic in settings.kafka_topics)
        advice = advise(settings, len(logs.ranges))
        yield ("topic", described, f"{'; '.join(advice)} (docs/scale.md)") if advice else ("topic", described)


def check_detection(settings: Settings, lag_s: float | None = None) -> Iterator[Finding]:
    """Checks Kafka, then that no partition stops, no run fails, and no unread record is older than `lag_s`."""
    from imgpipeline.detect.state import read_progress, read_state_by_store_clock
    from imgpipeline.objectstore import open_store
    from imgpipeline.stream.fetch import find_oldest
    from imgpipeline.stream.log import read_log

    yield from check_kafka(settings)
    store = open_store(settings, patience_s=STORE_PATIENCE_S)
    partitions = read_progress(store, settings.kafka_topics, read_log(settings))
    oldest = find_oldest(settings, {each.log: each.offset for each in partitions if each.log and not each.stopped})
    problems = [str(each.stopped) for each in partitions if each.stopped]
    since, now = min(oldest.values(), default=None), utc_now()
    is_late = since is not None and lag_s is not None and (now - since).total_seconds() > lag_s
    waiting = f"the oldest unread record is from {format_time(since)}" if since else "no record waits"
    problems += [waiting] if is_late else []
    state = read_state_by_store_clock(store, now)
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


def check_object_store(settings: Settings, clock: Callable[[], datetime] = utc_now) -> Iterator[Finding]:
    """Checks that the store can be written and read, that one of several create-only writers wins, and its clock."""
    from imgpipeline.objectstore import open_store
    from imgpipeline.objectstore.client import check_store, measure_clock

    store = open_store(settings, patience_s=STORE_PATIENCE_S)
    check_store(store)
    found = f"{settings.store_url} can be listed, written and read; create-only writes work"
    ahead_s = measure_clock(store, clock)
    if abs(ahead_s) <= _MOST_SKEW_S:
        yield "object store", found
    else:
        side = "ahead of" if ahead_s > 0 else "behind"
        step = "set the clocks of all machines by NTP (`timedatectl set-ntp true`); docs/scale.md says what reads them"
        yield "object store", f"{found}; this machine's clock is {abs(ahead_s):.0f} s {side} the store's", step


def check_model(settings: Settings) -> Iterator[tuple[str, str]]:
    """Checks that the model's file exists and is complete, and that the network runs on a known image."""
    from imgpipeline.vision.configured import describe_use, load_configured_detector
    from imgpipeline.vision.detector import self_test

    detector = load_configured_detector(settings)
    self_test(detector)
    members = (f"{one.model_name} ({one.model_sha256[:12]}) {describe_use(one)}" for one in detector.members)
    yield "model", "\n".join(members)


def check_duckdb(settings: Settings) -> Iterator[tuple[str, str]]:  # noqa: ARG001 - every check takes the settings
    """Checks that DuckDB computes and returns times."""
    import duckdb

    with duckdb.connect() as connection:
        row = connection.execute("SELECT sum(x), max(TIMESTAMPTZ '2026-01-09 12:00Z') FROM range(5) t(x)").fetchone()
        if row is None or row[0] != 10:
            raise RuntimeError(f"DuckDB answers {row}")
    yield "DuckDB", f"version {duckdb.__version__} computes"


def check_rules(settings: Settings) -> Iterator[tuple[str, str]]:
    """Checks that the rules are valid, that their alerts can be sent, and that each name they notify has a target."""
    from imgpipeline.events.alerts.delivery import check_names, read_targets
    from imgpipeline.events.configuration import Rules, read_rules
    from imgpipeline.objectstore import open_store

    rules = read_rules(settings, open_store(settings, patience_s=STORE_PATIENCE_S)) if settings.rules_file else Rules()
    yield "rules", f"{counted(len(rules.rule), 'rule')}; IMGPIPELINE_RULES_FILE is {settings.rules_file or 'not set'}"
    targets = read_targets(settings)
    check_names(targets, rules)
    yield "alert targets", f"{counted(len(targets), 'target')}; `imgpipeline alerts test` sends a message to each"


def check_sinks(settings: Settings) -> Iterator[tuple[str, str]]:
    """Checks that each sink accepts the login, and says how far it is behind."""
    from contextlib import closing

    from imgpipeline.objectstore import open_store
    from imgpipeline.sinks.configuration import load_sinks, open_sink
    from imgpipeline.sinks.exporting import read_statuses

    statuses = read_statuses(open_store(settings, patience_s=STORE_PATIENCE_S), settings)
    lines = []
    for config, status in zip(load_sinks(settings), statuses, strict=True):
        with closing(open_sink(config)[0]) as sink:
            lines.append(f"{config.name}: {sink.check()}, {status.problem(utc_now()) or 'current'}")
    yield "sinks", "\n".join(lines) or "none; IMGPIPELINE_SINKS is not set"


def check_camera(
    settings: Settings,  # noqa: ARG001 - every check takes the settings
    url: str,
    credentials: str | None,
) -> Iterator[tuple[str, str]]:
    """Checks that a camera delivers frames by RTSP."""
    from imgpipeline.sources.rtsp import probe, read_address

    yield read_address(url).shown, str(probe(url, credentials))


CHECKS: Mapping[tuple[str, ...], Check] = {
    ("Kafka", "topic", "detection"): check_detection,
    ("object store",): check_object_store,
    ("model",): check_model,
    ("DuckDB",): check_duckdb,
    ("rules", "alert targets"): check_rules,
    ("sinks",): check_sinks,
}
"""All checks, in display order."""
_COLOURS = {"ok": "green", "warning": "yellow", "failed": "bold red", "not checked": "yellow"}
_SUPERVISOR_TIMEOUT_S = 5.0


def doctor(
    as_json: JsonOption = False,
    rtsp: Annotated[list[str] | None, typer.Option("--rtsp", metavar="URL", help="Also check this camera.")] = None,
    credentials_env: CredentialsEnvOption = None,
    credentials_file: CredentialsFileOption = None,
) -> None:
    """Check settings, Kafka, topic, object store, model, DuckDB, rules and sinks, and say how to fix each failure.

    With --rtsp, also checks whether a camera answers, and shows its frames per second, codec, size and clock.
    """
    results = _examine(_camera_checks(rtsp or [], credentials_env, credentials_file))
    well = all(result.status in ("ok", "warning") for result in results)
    if as_json:
        show_json({"ok": well, "version": __version__, "checks": results})
    else:
        _show(results)
    if not well:
        raise typer.Exit(1)


def _camera_checks(urls: Sequence[str], variable: str | None, file: Path | None) -> dict[tuple[str, ...], Check]:
    from imgpipeline.sources.rtsp import read_address, read_credentials

    login = read_credentials(variable, file)
    return {(read_address(url).shown,): partial(check_camera, url=url, credentials=login) for url in urls}


def _examine(cameras: Mapping[tuple[str, ...], Check]) -> list[CheckResult]:
    try:
        settings = load_settings()
    except ConfigurationError as error:
        return [CheckResult("settings", "failed", error.message, error.next_step, 0.0)]
    return [_check_names(), *run_checks(settings, {**CHECKS, **cameras})]


def _check_names() -> CheckResult:
    unknown = unknown_settings()
    if not unknown:
        return CheckResult("settings", "ok", "all names are known, all values are valid", None, 0.0)
    step = "correct or remove them in the environment or in .env; `imgpipeline settings` lists all settings"
    return CheckResult("settings", "warning", " ".join(map(str, unknown)), step, 0.0)


def _show(results: Sequence[CheckResult]) -> None:
    table = Table("check", "result", "what was found", title=f"imgpipeline {__version__}", title_justify="left")
    for result in results:
        status = Text(result.status, style=_COLOURS[result.status])
        table.add_row(Text(shown(result.name)), status, Text(shown(result.message)))
    console = stdout_console()
    console.print(table)
    for result in results:
        if result.next_step:  # outside the table, so a command can be copied in one piece
            console.print(Text(f"{result.name}: {shown(result.next_step)}"), soft_wrap=True)
    if all(result.status == "ok" for result in results):
        console.print("Everything works.")


def health(
    supervisor: Annotated[
        int | None,
        typer.Option("--supervisor", help="Also ask the supervisor of `sources run --metrics-port` on this port."),
    ] = None,
    lag: Annotated[
        float | None,
        typer.Option("--lag", min=0, metavar="SECONDS", help="Fail if the oldest unread record is older than this."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Probe Kafka, the object store and detection within seconds, for service managers. Exits with status 1 on failure.

    Detection has a problem if its runs fail, if records expired unread, or if records wait and frames_sensor has
    stopped; with --lag, also if the oldest unread record is too old. With --supervisor, also fails if a source of the
    supervisor on this machine is offline, failed, taken over, or waiting for Kafka or the store. Unlike `doctor`, it
    loads no model and gives no advice.
    """
    detection = partial(check_detection, lag_s=lag)
    results = run_checks(
        load_settings(), {("Kafka", "topic", "detection"): detection, ("object store",): check_object_store}
    )
    problems = {result.name: result.message for result in results if result.status not in ("ok", "warning")}
    if supervisor is not None:
        problems |= _supervisor_problems(supervisor)
    if as_json:
        show_json({"healthy": not problems, "problems": problems})
    else:
        for name, problem in problems.items():
            note(f"{name}: {problem}")
        if not problems:
            note("healthy")
    if problems:
        raise typer.Exit(1)


def _supervisor_problems(port: int) -> dict[str, str]:
    try:
        try:
            answer = urlopen(f"http://127.0.0.1:{port}/health", timeout=_SUPERVISOR_TIMEOUT_S)
        except HTTPError as error:
            answer = error
        with answer:
            problems = json.load(answer)["problems"]
            return {f"source {name}": str(problem) for name, problem in problems.items()}
    except OSError as error:
        return {"supervisor": f"no answer on port {port}: {getattr(error, 'reason', error)}"}
    except (HTTPException, ValueError, LookupError, TypeError, AttributeError):
        return {"supervisor": f"no supervisor answers on port {port}"}


def show_settings(as_json: JsonOption = False) -> None:
    """Show the current settings; of secrets, only whether they are set."""
    settings = load_settings()
    rows = [(variables(name, field), getattr(settings, name), name) for name, field in Settings.model_fields.items()]
    if as_json:
        show_json({names[0]: _masked(value) for names, value, _ in rows})
        return
    given = settings.model_fields_set
    lines = [(names[0], shown(_masked(value)), "" if name in given else "default") for names, value, name in rows]
    lines += [
        (one.name, "", one.instead or (f"unknown; {one.nearest}?" if one.nearest else "unknown"))
        for one in unknown_settings()
    ]
    show_table(("setting", "value", ""), lines)


def _masked(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return "(set)"
    if isinstance(value, tuple):
        return ", ".join(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
