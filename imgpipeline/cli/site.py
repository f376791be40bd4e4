"""`imgpipeline site`: write the folder of a site that runs in containers, and check it before it starts."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from imgpipeline.cli.options import command
from imgpipeline.cli.output import note, write_text
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import UsageError

app = typer.Typer()


@command(app, "init")
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the site.", metavar="FOLDER")],
    domain: Annotated[str | None, typer.Option(help="Host name of the viewer; dagster.HOST belongs to it.")] = None,
    mail: Annotated[str | None, typer.Option(help="For Let's Encrypt. Default: the proxy's own certificate.")] = None,
    store: Annotated[str | None, typer.Option(help="s3://BUCKET/PREFIX. Default: a server of the site.")] = None,
    store_endpoint: Annotated[str, typer.Option(help="URL of that store, if it is not AWS.")] = "",
    model: Annotated[str | None, typer.Option(help="Of `imgpipeline models list`. Default: yolox-nano.")] = None,
    camera: Annotated[
        list[str] | None, typer.Option("--camera", metavar="NAME=URL", help="An RTSP camera. Repeatable.")
    ] = None,
    sink: Annotated[
        list[str] | None,
        typer.Option("--sink", help="clickhouse or opensearch, as part of the site, or NAME=URL. Repeatable."),
    ] = None,
    alerts: Annotated[str, typer.Option(help="Where alerts go, such as mailtos://….")] = "",
    timezone: Annotated[str | None, typer.Option(help="IANA time zone of the site. Default: UTC.")] = None,
    monitoring: Annotated[bool, typer.Option("--monitoring", help="Run Prometheus and Grafana.")] = False,
) -> None:
    """Write the folder of a site: compose.yaml, .env, secrets, sources.toml and rules.toml.

    In a terminal, it asks for what the options do not say. In a folder that exists, it renews the files of this version
    and adds missing secrets; .env, the secrets, sources.toml and rules.toml stay.
    """
    from imgpipeline.site.folder import SiteAnswers, write_site

    has_options = any((domain, mail, store, store_endpoint, model, camera, sink, alerts, timezone, monitoring))
    ask = partial(_answer, asks=_asks(folder, has_options=has_options))
    answers = SiteAnswers(
        domain=ask("Host name of the site", domain, "localhost"),
        mail=ask("Mail address for Let's Encrypt (empty: self-signed)", mail, ""),
        store=ask("Store, s3://BUCKET/PREFIX (empty: a server of the site)", store, ""),
        store_endpoint=store_endpoint,
        model=ask("Model", model, "yolox-nano"),
        cameras=camera or ask("Cameras, NAME=rtsp://… NAME=…", None, "").split(),
        sinks=sink or ask("Sinks: clickhouse, opensearch, NAME=URL", None, "").split(),
        alert_targets=alerts,
        timezone=ask("Time zone", timezone, "UTC"),
        monitoring=monitoring,
    )
    shown = write_site(folder, answers, utc_now())
    keys = "write the keys of the store into .env and secrets/s3_secret_…, then " if store else ""
    note(f"{folder} is complete. Next: {keys}imgpipeline site check {folder}")
    if shown:
        note("Shown only once: the user and the password of the pages, and the API key of `ingest`.")
        write_text("".join(f"{name}: {value}\n" for name, value in shown.items()))


def _asks(folder: Path, *, has_options: bool) -> bool:
    """Tells whether someone can answer questions; in a folder that exists, no answer has an effect any more."""
    if not (folder / ".env").exists():
        return sys.stdin.isatty()
    if has_options:
        raise UsageError(f"{folder} exists: options do not change it.", next_step="edit .env, sources.toml or secrets/")
    note(f"{folder} exists: .env, secrets, sources.toml and rules.toml stay as they are.")
    return False


def _answer(question: str, given: str | None, default: str, *, asks: bool) -> str:
    """Returns what was given, or else the answer of the person at the terminal, or the default."""
    if given is None and asks:
        return str(typer.prompt(question, default=default, show_default=bool(default), err=True))
    return default if given is None else given


@command(app, "check")
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of the site.", metavar="FOLDER", exists=True, file_okay=False)],
) -> None:
    """Check this machine and the folder of a site before anything starts. Exits with status 1 on a problem."""
    from imgpipeline.site.checks import check_site

    failed = 0
    for name, problem in check_site(folder):
        failed += problem is not None and problem.is_certain
        found = "ok" if problem is None else f"{problem.message}. {problem.next_step}"
        write_text(f"{name:15} {'FAILED: ' if problem and problem.is_certain else ''}{found}\n")
    if failed:
        raise typer.Exit(1)
    pull = "docker compose run --rm tools imgpipeline models pull"
    note(f"Next, in {folder}: {pull} with the MODEL of .env, then docker compose up -d --wait")
