"""`imgpipeline serve`, `serve-ingest`, `exporter` and `keys`: the HTTP servers and their API keys."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from imgpipeline.cli.options import STORE_PATIENCE_S, MessageFormatOption, RowFormat, command, require_bucket
from imgpipeline.cli.output import note, record_of, write_text
from imgpipeline.cli.running import stopped_by_signals
from imgpipeline.contracts.messages import MessageFormat
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import UsageError
from imgpipeline.settings import load_settings
from imgpipeline.web.keys import KeyFile, Scope

keys_app = typer.Typer()

_SCOPES = "read, acknowledge, replay, ingest"
HostOption = Annotated[
    str, typer.Option("--host", help="Address to listen on. Addresses other than loopback require API keys.")
]


def serve(
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="Port to listen on.")] = 8050,
) -> None:
    """Serve the viewer and its API: frames, boxes, counts, and the frames that each number counts.

    Reads only the store, and shows new frames a few seconds after they were processed. Ctrl-C stops.
    """
    from imgpipeline.web.http_server import page_url
    from imgpipeline.web.viewer.access import Access
    from imgpipeline.web.viewer.app import check_host, run_viewer

    settings = load_settings()
    check_host(Access(settings), host, port)
    with stopped_by_signals() as stopping:
        note(f"Serving {settings.store_url} on {page_url(host, port)}. Ctrl-C stops.")
        run_viewer(settings, host, port, stopping.event)
    raise typer.Exit(stopping.exit_status)


def serve_ingest(
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Port to listen on.")] = 8060,
    dataset: Annotated[
        Path | None, typer.Option("--dataset", help="Folder of the videos to play. Default: DATASET_ROOT_DIR.")
    ] = None,
    message_format: MessageFormatOption = MessageFormat.NATIVE,
) -> None:
    """Receive images by HTTP, store and announce them: POST /frames/SOURCE. /docs describes the API.

    A request is answered when its image is stored and announced; an image that is sent again counts once. Without API
    keys, only this machine can send. On Ctrl-C, the command announces the images that have arrived, then ends.
    """
    from imgpipeline.sources.options import PublishOptions
    from imgpipeline.web.http_server import page_url
    from imgpipeline.web.ingest.app import serve as serve_http

    settings = load_settings(**({"dataset_root": dataset} if dataset else {}))
    require_bucket(settings, message_format)
    with stopped_by_signals() as stopping:
        url = page_url(host, port)
        note(f"Serving on {url}; {url}docs describes the API. Ctrl-C stops.")
        serve_http(settings, host, port, stopping.event, options=PublishOptions(message_format=message_format))
    raise typer.Exit(stopping.exit_status)


def exporter(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Port to listen on.")] = 9465,
    every_s: Annotated[float, typer.Option("--every", min=1, help="Seconds between two computations.")] = 30.0,
) -> None:
    """Serve Prometheus metrics of the whole site on /metrics: lag, sources, days, audit, alerts, sinks and runs.

    They are computed from the Kafka log, the ledger and the store, so they show when everything else has stopped.
    deploy/prometheus/ has alert rules, deploy/grafana/ has dashboards. Runs need DAGSTER_HOME.
    """
    read_runs: Any = None
    if os.environ.get("DAGSTER_HOME"):  # before DuckDB: it complains at its end if defs froze its objects
        from imgpipeline.defs.recent_runs import read_recent_runs as read_runs
    from imgpipeline.objectstore import open_store
    from imgpipeline.web.exporter import SiteMetrics, refresh_until, serve_site_metrics

    settings = load_settings()
    metrics = SiteMetrics(open_store(settings, patience_s=STORE_PATIENCE_S), settings, read_runs=read_runs)
    with stopped_by_signals() as stopping, serve_site_metrics(metrics, port, host) as opened:
        note(f"Serving http://{host}:{opened}/metrics. Ctrl-C stops.")
        metrics.refresh()
        refresh_until(metrics, stopping.event, every_s)
    raise typer.Exit(stopping.exit_status)


@command(keys_app, "add")
def add_key(
    *,
    name: Annotated[str, typer.Option("--name", help="Who uses the key; shown in acknowledgements.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", help=f"What it allows: {_SCOPES}. Repeatable. Default: ingest with --source, otherwise read."
        ),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", help="For ingest: a source to post to; * and ? are wildcards. Repeatable."),
    ] = None,
) -> None:
    """Create an API key and print it. It is shown only once: the file keeps its hash."""
    try:
        scopes = tuple(dict.fromkeys(Scope(each) for each in scope or ["ingest" if source else "read"]))
    except ValueError as error:
        raise UsageError(f"--scope is wrong: {error}.", next_step=f"give some of {_SCOPES}") from None
    file = KeyFile(load_settings().api_keys_file)
    write_text(file.add(tuple(source or ()), utc_now(), scopes=scopes, name=name) + "\n")
    note(f"Its hash is in {file.path}. Send it as: Authorization: Bearer KEY; in a browser, enter it as the password.")


_KEYS = ("id", "name", "scopes", "sources", "created")


@command(keys_app, "list")
def list_keys(rows: RowFormat) -> None:
    """List the API keys: id, name, scopes, sources and creation time."""
    keys = KeyFile(load_settings().api_keys_file).keys()
    rows.show([record_of(key) for key in keys], _KEYS, fields=_KEYS)


@command(keys_app, "remove")
def remove_key(key: Annotated[str, typer.Argument(help="Id of the key, as shown by `keys list`.")]) -> None:
    """Remove an API key. A running server rejects it from the next request on."""
    KeyFile(load_settings().api_keys_file).remove(key)
    note(f"The key {key} is removed.")
