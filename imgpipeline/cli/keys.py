"""`imgpipeline keys`: the API keys of `serve` and `serve-ingest`."""

from typing import Annotated

import typer

from imgpipeline.cli.output import JsonOption, note, show_json, show_table, write_text
from imgpipeline.contracts.times import utc_now
from imgpipeline.settings import load_settings

app = typer.Typer(help="The API keys of serve and serve-ingest.")
_SCOPES = "read, acknowledge, replay, ingest"


@app.callback()
def _group() -> None:
    """The API keys of serve and serve-ingest."""


@app.command("create")
def create(
    *,
    name: Annotated[str, typer.Option("--name", help="Who uses it: acknowledgements name them.")],
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help=f"What it is for: {_SCOPES}. Repeatable. Default: read.")
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", help="For ingest: a source that it may post to; * and ? are wildcards. Repeatable."),
    ] = None,
) -> None:
    """Make an API key and print it. It is shown only now: the file keeps its hash."""
    from imgpipeline.errors import UsageError  # noqa: PLC0415 - `--help` does not wait for it
    from imgpipeline.web.keys import KeyFile, Scope  # noqa: PLC0415 - as above

    try:
        scopes = tuple(dict.fromkeys(Scope(each) for each in scope or [Scope.READ]))
    except ValueError as error:
        raise UsageError(f"--scope is wrong: {error}.", next_step=f"give some of {_SCOPES}") from None
    file = KeyFile(load_settings().api_keys_file)
    write_text(file.add(tuple(source or ()), utc_now(), scopes=scopes, name=name) + "\n")
    note(f"Its hash is in {file.path}. Send it as: Authorization: Bearer KEY; a browser sends it as the password.")


@app.command("list")
def list_keys(as_json: JsonOption = False) -> None:
    """List the API keys: id, name, scopes, sources, and when they were made."""
    from imgpipeline.web.keys import KeyFile  # noqa: PLC0415 - as above

    found = KeyFile(load_settings().api_keys_file).keys()
    columns = ("id", "name", "scopes", "sources", "created")
    if as_json:
        show_json([{column: getattr(key, column) for column in columns} for key in found])
    else:
        rows = [(key.id, key.name, ", ".join(key.scopes), ", ".join(key.sources), key.created) for key in found]
        show_table(columns, rows)


@app.command("revoke")
def revoke(key: Annotated[str, typer.Argument(help="Its id, as `keys list` shows it.")]) -> None:
    """Remove an API key; a running server refuses it from the next request on."""
    from imgpipeline.web.keys import KeyFile  # noqa: PLC0415 - as above

    KeyFile(load_settings().api_keys_file).remove(key)
    note(f"The key {key} is removed.")
