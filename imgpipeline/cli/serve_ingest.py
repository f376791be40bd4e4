"""`imgpipeline serve-ingest`: the HTTP source, and its API keys."""

from pathlib import Path
from typing import Annotated

import typer

from imgpipeline.cli.keys import list_keys, revoke
from imgpipeline.cli.output import note, write_text
from imgpipeline.cli.stopping import stopped_by_signals
from imgpipeline.contracts.times import utc_now
from imgpipeline.settings import load_settings

app = typer.Typer(invoke_without_command=True, help="Receive images by HTTP, store and announce them.")
keys = typer.Typer(help="The API keys of serve-ingest.")
app.add_typer(keys, name="keys")


@app.callback()
def serve(
    context: typer.Context,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on. Another than this machine's needs keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Port to listen on.")] = 8060,
    dataset: Annotated[
        Path | None, typer.Option("--dataset", help="Folder of the videos to play. Default: DATASET_ROOT_DIR.")
    ] = None,
) -> None:
    """Receive images by HTTP, store and announce them: POST /frames/SOURCE. The API is described at /docs.

    An image is answered when it is stored and announced; sending it again counts once. Without API keys only this
    machine can send. Ctrl-C stops, after what has arrived is announced.
    """
    if context.invoked_subcommand is not None:
        return
    from imgpipeline.web.ingest.app import serve as serve_http  # noqa: PLC0415 - `--help` does not wait for it

    settings = load_settings(**({"dataset_root": dataset} if dataset else {}))
    with stopped_by_signals() as stopping:
        note(f"Serving on http://{host}:{port}/, its API is described at http://{host}:{port}/docs. Ctrl-C stops.")
        serve_http(settings, host, port, stopping.event)
    raise typer.Exit(stopping.exit_status)


@keys.callback()
def _keys() -> None:
    """The API keys of serve-ingest."""


@keys.command("add")
def add(
    source: Annotated[
        list[str], typer.Option("--source", help="A source that the key is for; * and ? are wildcards. Repeatable.")
    ],
) -> None:
    """Make an API key that posts images, and print it. It is shown only now: the file keeps its hash."""
    from imgpipeline.web.keys import KeyFile  # noqa: PLC0415 - as above

    file = KeyFile(load_settings().api_keys_file)
    write_text(file.add(tuple(source), utc_now()) + "\n")
    note(f"Its hash is in {file.path}. Send it as: Authorization: Bearer KEY")


keys.command("list")(list_keys)
keys.command("remove")(revoke)
