"""`imgpipeline doctor`: does everything that the settings point to work, and if not, what to do?"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from imgpipeline import __version__
from imgpipeline.cli.checks import CHECKS, Check, CheckResult, check_camera, run_checks
from imgpipeline.cli.ingest_rtsp import CredentialsEnvOption, CredentialsFileOption
from imgpipeline.cli.output import JsonOption, show_json, shown, stdout_console
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import load_settings
from imgpipeline.settings.loading import unknown_settings

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "bold red", "not checked": "yellow"}


def doctor(
    as_json: JsonOption = False,
    rtsp: Annotated[list[str] | None, typer.Option("--rtsp", metavar="URL", help="Also try this camera.")] = None,
    credentials_env: CredentialsEnvOption = None,
    credentials_file: CredentialsFileOption = None,
) -> None:
    """Check settings, Kafka, the topic, the object store, the model and DuckDB, and say how to fix each failure.

    With --rtsp also a camera: whether it answers, its frames per second, codec, size and clock.
    """
    results = _examine(_cameras(rtsp or [], credentials_env, credentials_file))
    well = all(result.status in ("ok", "warning") for result in results)
    if as_json:
        show_json({"ok": well, "version": __version__, "checks": [asdict(result) for result in results]})
    else:
        _show(results)
    if not well:
        raise typer.Exit(1)


def _cameras(urls: Sequence[str], variable: str | None, file: Path | None) -> dict[tuple[str, ...], Check]:
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
        return CheckResult("settings", "ok", "every name is known, every value is allowed", None, 0.0)
    step = "correct or remove them in the environment or in .env; `imgpipeline settings` lists all settings"
    return CheckResult("settings", "warning", " ".join(map(str, unknown)), step, 0.0)


def _show(results: Sequence[CheckResult]) -> None:
    from rich.table import Table  # noqa: PLC0415 - `--version` does not wait for it
    from rich.text import Text  # noqa: PLC0415 - as above

    table = Table("check", "result", "what was found", title=f"imgpipeline {__version__}", title_justify="left")
    for result in results:
        table.add_row(result.name, Text(result.status, style=_COLOURS[result.status]), Text(shown(result.message)))
    console = stdout_console()
    console.print(table)
    to_do = [result for result in results if result.next_step]
    for result in to_do:
        # Outside the table, so that a command can be copied in one piece.
        console.print(Text(f"{result.name}: {shown(result.next_step)}"), soft_wrap=True)
    if all(result.status == "ok" for result in results):
        console.print("Everything works.")
