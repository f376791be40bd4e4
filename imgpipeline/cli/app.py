"""The command line as a whole: the tree of commands, the global options, and how errors are shown.

Exit statuses: 0 success, 1 failure or a problem found, 2 wrong usage, 130 stopped by Ctrl-C.
`IMGPIPELINE_TRACEBACK=1` shows the traceback of an unexpected error.
"""

import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException
from typer.main import get_group

from imgpipeline import __version__
from imgpipeline.cli.output import note, show_error, write_text
from imgpipeline.errors import ImgpipelineError, UsageError
from imgpipeline.settings.loading import read_variable, unknown_settings
from imgpipeline.settings.logs import LOG_FORMAT, start_logging

_EMPTY_OPTION = re.compile(r"(--?[a-z][a-z-]*)=")

_COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "demo": ("simulate.demo", "Run the whole pipeline with simulated cameras, and compare its counts with the truth."),
    "detect": ("detect.detect", "Detect objects in images, without Kafka. Nothing is stored."),
    "doctor": ("doctor.doctor", "Check settings, servers, model and rules, and say how to fix each failure."),
    "health": ("doctor.health", "Probe Kafka, the object store and detection within seconds, for service managers."),
    "settings": ("doctor.show_settings", "Show the current settings; of secrets, only whether they are set."),
    "prepare": ("ingest.prepare", "Write copies of images as frame_000000.jpg and so on."),
    "serve-ingest": ("serve.serve_ingest", "Receive images by HTTP, store and announce them."),
    "serve": ("serve.serve", "Serve the viewer and its API."),
    "exporter": ("serve.exporter", "Serve Prometheus metrics of the whole site, computed from log, ledger and store."),
    "upgrade": ("support.upgrade", "Compare the versions in the store with this release, before it is started."),
    "support-bundle": ("support.support_bundle", "Write one file for an issue report, with secrets masked."),
    "build": ("build.build", "Build the tables, summaries, tracks, events and reports of days that have frames."),
    "clean": ("clean.clean", "Delete everything in a store that is a folder, to start again. Asks first."),
    "status": ("audit.status", "Show log end, ledger end, lag and last commit of each topic partition."),
    "audit": ("audit.audit", "Check that every offset has exactly one outcome and that tables and ledger agree."),
    "query": ("summary.query", "Query all tables with SQL."),
    "explain": ("frames.explain", "Trace the count of a label, in one day or one hour, to its detections."),
    "report": ("summary.report", "Write the report of a day as one HTML page."),
    "redetect": ("redetect.redetect", "Process the stored images of days again, with another model or threshold."),
    "ingest": ("ingest_live.app", "Store images and announce them as frames."),
    "import": ("imports.app", "Import detections and metadata of other programs into the ledger."),
    "topics": ("topics.app", "Create the Kafka topics of the frames, and show their records."),
    "site": ("site.app", "Write and check the folder of a site that runs in containers."),
    "sources": ("sources.app", "Run and list sources, and show their accounting."),
    "simulate": ("simulate.app", "Simulate cameras with ground truth, over RTSP, MQTT or in folders."),
    "keys": ("serve.keys_app", "Manage the API keys of serve and serve-ingest."),
    "ledger": ("ledger.app", "List and repair the ledger's chains of segments."),
    "dead-letters": ("dead_letters.app", "List, show and announce again the offsets that could not become frames."),
    "frames": ("frames.app", "List and show frames with their detections."),
    "images": ("frames.images_app", "Manage the images that imgpipeline stored."),
    "summary": ("summary.app", "Count detections, frames and objects by label, hour, size, source, zone and line."),
    "accuracy": ("accuracy.app", "Let people count on random frames, and show counts with error bars."),
    "tracks": ("tracks.app", "Show the objects that were followed across frames, and evaluate tracking."),
    "rules": ("events.rules_app", "Check, store and draw the rules for events."),
    "events": ("events.app", "Show events."),
    "alerts": ("events.alerts_app", "Raise, deliver, show and acknowledge alerts: events with someone to notify."),
    "models": ("redetect.app", "List, download, add, convert, quantize, tune and compare detection models."),
    "export": ("export.app", "Export all tables as a file, or frames with their boxes as a training set."),
    "publish": ("publish.app", "Publish results to Kafka, exactly once, or events to Home Assistant."),
    "sinks": ("sinks.app", "Copy the tables into PostgreSQL, ClickHouse, OpenSearch, Elasticsearch and Meilisearch."),
    "mapreduce": ("mapreduce.app", "Print the output of classic Hadoop Streaming jobs, without Hadoop."),
}
"""Module and name of each command or group, and its help text in the overview."""


class _Command(TyperCommand):
    """A command or group whose module is imported when it is called, so that the overview is quick."""

    def __init__(self, name: str, place: str, text: str) -> None:
        super().__init__(name, help=text)
        self._module, self._attribute = place.split(".")

    def make_context(self, *given: Any, **extra: Any) -> Any:
        from imgpipeline.cli.options import command

        found = getattr(import_module(f"imgpipeline.cli.{self._module}"), self._attribute)
        if isinstance(found, typer.Typer):
            loaded = get_group(found)
            loaded.help = self.help
            return loaded.make_context(*given, **extra)
        own = typer.Typer()
        command(own, str(self.name))(found)
        return get_group(own).commands[str(self.name)].make_context(*given, **extra)


class _Commands(TyperGroup):
    """The tree of commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name, (place, text) in _COMMANDS.items():
            self.add_command(_Command(name, place, text))


app = typer.Typer(
    name="imgpipeline",
    cls=_Commands,
    help="Count what cameras see, from Kafka frames to DuckDB numbers, and prove that no frame was lost or counted "
    "twice.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        write_text(f"imgpipeline {__version__}\n")
        raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback has shown it and ended the command
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log each step on stderr.")] = False,
    health_port: Annotated[
        int | None,
        typer.Option("--health-port", min=1, max=65_535, help="Answer GET / on this port while the command runs."),
    ] = None,
    health_address: Annotated[str, typer.Option("--health-address", help="Address of that port.")] = "127.0.0.1",
) -> None:
    start_logging(read_variable(LOG_FORMAT), logging.INFO if verbose else logging.WARNING)
    if not verbose:
        # kafka-python logs every failed attempt to connect; the error message names the final failure and its cause.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
    # The `.env` of a site has variables of the compose file, which are no settings.
    for unknown in unknown_settings() if context.invoked_subcommand != "site" else ():
        if not unknown.may_be_of_others:
            note(f"Warning: {unknown}")
    if health_port is not None:
        from imgpipeline.sources.metrics import serve_health

        context.with_resource(serve_health(health_port, health_address, context.invoked_subcommand or "imgpipeline"))


def main() -> None:
    """Runs the command of this process and exits with its status."""
    try:
        _refuse_empty(sys.argv[1:])
        sys.exit(app(prog_name="imgpipeline", standalone_mode=False))
    except TyperException as error:
        _show_wrong_usage(error)
        sys.exit(error.exit_code)
    except ImgpipelineError as error:
        show_error(error.message, error.next_step)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except typer.Abort:
        show_error("Cancelled: not confirmed.", None)
        sys.exit(1)
    except BrokenPipeError:
        # The reader of the output has closed it (`| head`). Python must not try to flush it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:  # the boundary to the terminal: one message instead of a traceback
        if os.environ.get("IMGPIPELINE_TRACEBACK") == "1":
            raise
        show_error(
            f"Unexpected error: {type(error).__name__}: {error}",
            "set IMGPIPELINE_TRACEBACK=1, run the command again, and report the traceback",
        )
        sys.exit(1)


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Refuses empty arguments, which are mostly unset shell variables.

    No command needs one, and some would treat it as the working folder or as no filter.

    Raises:
        UsageError: One of the arguments is empty.
    """
    for before, argument in zip(("", *arguments), arguments, strict=False):
        option = _EMPTY_OPTION.fullmatch(argument)
        if option or not argument:
            name = option[1] if option else before if before.startswith("-") else "An argument"
            raise UsageError(f"{name} is empty.", next_step="give a value; is the shell variable set?")


def _show_wrong_usage(error: TyperException) -> None:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "imgpipeline"
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    show_error(f"{message}.", f"`{command} --help` shows the options and arguments")
