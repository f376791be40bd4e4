"""`imgpipeline serve`, `serve-ingest` and `keys`: the HTTP servers and their API keys."""

from pathlib import Path
from typing import Annotated

import typer

from imgpipeline.cli.options import JsonOption
from imgpipeline.cli.output import note, show_json, show_table, write_text
from imgpipeline.cli.stopping import stopped_by_signals
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import UsageError
from imgpipeline.settings import load_settings

ingest_app = typer.Typer(invoke_without_command=True, help="Receive images by HTTP, store and announce them.")
keys_app = typer.Typer(help="Manage the API keys of serve and serve-ingest.")
_ingest_keys = typer.Typer(help="Manage the API keys of serve-ingest.")
ingest_app.add_typer(_ingest_keys, name="keys")

HostOption = Annotated[
    str, typer.Option("--host", help="Address to listen on. Addresses other than loopback require API keys.")
]
_SCOPES = "read, acknowledge, replay, ingest"


def serve(
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="Port to listen on.")] = 8050,
) -> None:
    """Serve the viewer and its API: frames, boxes, counts, and the frames that each number counts.

    Reads only the store, and shows new frames a few seconds after they were processed. Ctrl-C stops.
    """
    from imgpipeline.web.http_server import page_url  # noqa: PLC0415 - `--help` does not wait for it
    from imgpipeline.web.viewer.access import Access  # noqa: PLC0415 - `--help` does not wait for it
    from imgpipeline.web.viewer.app import check_host, run_viewer  # noqa: PLC0415 - as above

    settings = load_settings()
    check_host(Access(settings), host, port)
    with stopped_by_signals() as stopping:
        note(f"Serving {settings.store_url} on {page_url(host, port)}. Ctrl-C stops.")
        run_viewer(settings, host, port, stopping.event)
    raise typer.Exit(stopping.exit_status)


@ingest_app.callback()
def serve_ingest(
    context: typer.Context,
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Port to listen on.")] = 8060,
    dataset: Annotated[
        Path | None, typer.Option("--dataset", help="Folder of the videos to play. Default: DATASET_ROOT_DIR.")
    ] = None,
) -> None:
    """Receive images by HTTP, store and announce them: POST /frames/SOURCE. /docs describes the API.

    A request is answered when its image is stored and announced; an image that is sent again counts once. Without API
    keys, only this machine can send. On Ctrl-C, the command announces the images that have arrived, then ends.
    """
    if context.invoked_subcommand is not None:
        return
    from imgpipeline.web.http_server import page_url  # noqa: PLC0415 - `--help` does not wait for it
    from imgpipeline.web.ingest.app import serve as serve_http  # noqa: PLC0415 - as above

    settings = load_settings(**({"dataset_root": dataset} if dataset else {}))
    with stopped_by_signals() as stopping:
        url = page_url(host, port)
        note(f"Serving on {url}; {url}docs describes the API. Ctrl-C stops.")
        serve_http(settings, host, port, stopping.event)
    raise typer.Exit(stopping.exit_status)


@_ingest_keys.command("add")
def add(
    source: Annotated[
        list[str], typer.Option("--source", help="Source to which the key may post; * and ? are wildcards. Repeatable.")
    ],
) -> None:
    """Create an API key for posting images and print it. It is shown only once: the file keeps its hash."""
    from imgpipeline.web.keys import KeyFile  # noqa: PLC0415 - `--help` does not wait for it

    file = KeyFile(load_settings().api_keys_file)
    write_text(file.add(tuple(source), utc_now()) + "\n")
    note(f"Its hash is in {file.path}. Send it as: Authorization: Bearer KEY")


@keys_app.command("create")
def create(
    *,
    name: Annotated[str, typer.Option("--name", help="Who uses the key; shown in acknowledgements.")],
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help=f"What the key allows: {_SCOPES}. Repeatable. Default: read.")
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", help="For ingest: a source to post to; * and ? are wildcards. Repeatable."),
    ] = None,
) -> None:
    """Create an API key and print it. It is shown only once: the file keeps its hash."""
    from imgpipeline.web.keys import KeyFile, Scope  # noqa: PLC0415 - `--help` does not wait for it

    try:
        scopes = tuple(dict.fromkeys(Scope(each) for each in scope or [Scope.READ]))
    except ValueError as error:
        raise UsageError(f"--scope is wrong: {error}.", next_step=f"give some of {_SCOPES}") from None
    file = KeyFile(load_settings().api_keys_file)
    write_text(file.add(tuple(source or ()), utc_now(), scopes=scopes, name=name) + "\n")
    note(f"Its hash is in {file.path}. Send it as: Authorization: Bearer KEY; in a browser, enter it as the password.")


@_ingest_keys.command("list")
@keys_app.command("list")
def list_keys(as_json: JsonOption = False) -> None:
    """List the API keys: id, name, scopes, sources and creation time."""
    from imgpipeline.web.keys import KeyFile  # noqa: PLC0415 - `--help` does not wait for it

    found = KeyFile(load_settings().api_keys_file).keys()
    columns = ("id", "name", "scopes", "sources", "created")
    if as_json:
        show_json([{column: getattr(key, column) for column in columns} for key in found])
    else:
        rows = [(key.id, key.name, ", ".join(key.scopes), ", ".join(key.sources), key.created) for key in found]
        show_table(columns, rows)


@_ingest_keys.command("remove")
@keys_app.command("revoke")
def revoke(key: Annotated[str, typer.Argument(help="Id of the key, as shown by `keys list`.")]) -> None:
    """Remove an API key. A running server rejects it from the next request on."""
    from imgpipeline.web.keys import KeyFile  # noqa: PLC0415 - `--help` does not wait for it

    KeyFile(load_settings().api_keys_file).remove(key)
    note(f"The key {key} is removed.")
