"""`imgpipeline sinks`: copy the tables into other systems, and show how far each of them is behind."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date
from typing import Annotated, Any

import typer

from imgpipeline.cli.options import Period, RowFormat, YesOption, command, open_site
from imgpipeline.cli.output import confirm, note, record_of, write_text
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ImgpipelineError, UsageError
from imgpipeline.settings import Settings, load_settings
from imgpipeline.sinks.configuration import load_sinks, open_sink
from imgpipeline.sinks.exporting import Exporter, read_statuses
from imgpipeline.sinks.protocol import Searchable, SinkConfig

app = typer.Typer()
_NO_SINK = "No sink is configured: set IMGPIPELINE_SINKS (docs/sinks.md)."
NameArgument = Annotated[str, typer.Argument(help="The name of the sink.", metavar="NAME")]
NamesArgument = Annotated[list[str] | None, typer.Argument(help="Only these sinks.", metavar="[NAME]...")]


@command(app, "list")
def list_sinks(rows: RowFormat) -> None:
    """List the sinks of IMGPIPELINE_SINKS with their tables. Connects to none of them."""
    found = [
        {"name": each.name, "kind": each.kind, "url": each.url, "tables": [table.name for table in open_sink(each)[1]]}
        for each in load_sinks(load_settings())
    ]
    rows.show(found, ("name", "kind", "url", "tables"), empty=_NO_SINK)


@command(app, "check")
def check(rows: RowFormat, names: NamesArgument = None) -> None:
    """Connect to each sink, log in, and show its version. Exits with status 1 if one fails."""
    results = []
    for config in _chosen(load_settings(), names):
        try:
            with closing(open_sink(config)[0]) as sink:
                results.append({"name": config.name, "ok": True, "message": sink.check()})
        except ImgpipelineError as error:
            results.append({"name": config.name, "ok": False, "message": str(error)})
    rows.show(results, ("name", "ok", "message"), empty=_NO_SINK)
    raise typer.Exit(0 if all(result["ok"] for result in results) else 1)


@command(app, "run")
def run(period: Period, names: NamesArgument = None) -> None:
    """Copy the days that differ into the sinks, newest first. Dagster does the same when days change.

    Each sink stores the version of each day with its rows, so a day that has not changed is skipped. A sink that fails
    does not hold back the others. Exits with status 1 if one failed.
    """
    settings, store = open_site(sinks_today_s=0)
    span, failed = period.span(), False
    for config in _chosen(settings, names):
        rows, days = 0, set[date]()
        try:
            exporter = Exporter(store, settings, config)
            with closing(exporter.sink):
                for done in exporter.export(span):
                    rows += done.rows
                    days.add(done.day)
                    note(f"{config.name}: {done}")
            note(f"{config.name}: {counted(rows, 'row')} of {counted(len(days), 'day')} copied.")
        except ImgpipelineError as error:
            failed = True
            note(f"{config.name}: FAILED: {error}")
    raise typer.Exit(1 if failed else 0)


@command(app, "status")
def status(rows: RowFormat) -> None:
    """Show how far each sink was behind after its last export. Connects to none of them."""
    settings, store = open_site()
    now = utc_now()
    found = [{**record_of(each), "problem": each.problem(now)} for each in read_statuses(store, settings)]
    rows.show(found, ("name", "checked_at", "days_behind", "problem"), empty=_NO_SINK)


@command(app, "remove")
def remove(name: NameArgument, period: Period, yes: YesOption = False) -> None:
    """Remove the exported rows from a sink, of some days or of all. The store is not changed.

    The next export copies the days again, unless the sink or its table is taken out of IMGPIPELINE_SINKS before.
    """
    settings, store = open_site()
    (config,) = _chosen(settings, [name])
    span = period.span()
    if not yes:
        confirm(f"Remove the rows of {span} from {name} ({config.url})?")
    exporter = Exporter(store, settings, config)
    with closing(exporter.sink):
        for table, days in exporter.remove(span).items():
            note(f"{name}: removed {counted(days, 'day')} of {table}.")


@command(app, "search")
def search(
    name: NameArgument,
    text: Annotated[str, typer.Argument(help="A label, or for Meilisearch any text.", metavar="TEXT")],
    size: Annotated[int, typer.Option("--size", min=1, max=10_000, help="Show at most this many.")] = 5,
) -> None:
    """Show documents of a search engine, as lines of JSON."""
    with _search_engine(name) as engine:
        for document in engine.search(text, size):
            write_text(json.dumps(document, ensure_ascii=False, default=str) + "\n")


@command(app, "count")
def count(name: NameArgument) -> None:
    """Print the number of documents of a search engine."""
    with _search_engine(name) as engine:
        write_text(f"{engine.count()}\n")


@contextmanager
def _search_engine(name: str) -> Iterator[Searchable]:
    (config,) = _chosen(load_settings(), [name])
    sink: Any = open_sink(config)[0]
    with closing(sink):
        if not isinstance(sink, Searchable):
            raise UsageError(f"The sink {name} is no search engine.", next_step="query it with its own client")
        yield sink


def _chosen(settings: Settings, names: list[str] | None) -> list[SinkConfig]:
    configs = {config.name: config for config in load_sinks(settings)}
    unknown = [name for name in names or () if name not in configs]
    if unknown:
        raise UsageError(
            f"There is no sink {unknown[0]}. Configured: {', '.join(configs) or 'none'}.",
            next_step="correct the name, or IMGPIPELINE_SINKS",
        )
    return [configs[name] for name in names or configs]
