"""`imgpipeline doctor` and `health`: do Kafka, the store, the model and the cameras work, and if not, what to do?"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Annotated
from urllib.error import HTTPError
from urllib.request import urlopen

import typer

from imgpipeline import __version__
from imgpipeline.cli.checks import (
    CHECKS,
    Check,
    CheckResult,
    check_camera,
    check_detection,
    check_object_store,
    run_checks,
)
from imgpipeline.cli.ingest_live import CredentialsEnvOption, CredentialsFileOption
from imgpipeline.cli.options import JsonOption
from imgpipeline.cli.output import note, show_json, shown, stdout_console
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import load_settings
from imgpipeline.settings.loading import unknown_settings

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "bold red", "not checked": "yellow"}
_SUPERVISOR_TIMEOUT_S = 5.0


def doctor(
    as_json: JsonOption = False,
    rtsp: Annotated[list[str] | None, typer.Option("--rtsp", metavar="URL", help="Also check this camera.")] = None,
    credentials_env: CredentialsEnvOption = None,
    credentials_file: CredentialsFileOption = None,
) -> None:
    """Check settings, Kafka, the topic, the object store, the model, DuckDB and rules, and say how to fix each failure.

    With --rtsp, also checks whether a camera answers, and shows its frames per second, codec, size and clock.
    """
    results = _examine(_camera_checks(rtsp or [], credentials_env, credentials_file))
    well = all(result.status in ("ok", "warning") for result in results)
    if as_json:
        show_json({"ok": well, "version": __version__, "checks": [asdict(result) for result in results]})
    else:
        _show(results)
    if not well:
        raise typer.Exit(1)


def _camera_checks(urls: Sequence[str], variable: str | None, file: Path | None) -> dict[tuple[str, ...], Check]:
    from imgpipeline.sources.rtsp import read_address, read_credentials  # noqa: PLC0415 - `--help` is quick

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
    from rich.table import Table  # noqa: PLC0415 - `--version` does not wait for it
    from rich.text import Text  # noqa: PLC0415 - as above

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
    problems = {result.name: result.message for result in results if result.status != "ok"}
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
