"""The command line as a whole: the tree of commands, the global options, help texts, and how errors are shown.

Exit statuses: 0 success, 1 failure or a problem found, 2 wrong usage, 130 stopped by Ctrl-C.
`IMGPIPELINE_TRACEBACK=1` shows the traceback of an unexpected error.
"""

import inspect
import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from imgpipeline import __version__
from imgpipeline.cli import (
    alerts,
    audit,
    build,
    dead_letters,
    demo,
    detect,
    doctor,
    events,
    explain,
    export,
    frames,
    images,
    imports,
    ingest_files,
    ingest_live,
    ingest_stored,
    ledger,
    mapreduce,
    models,
    models_compare,
    models_own,
    prepare,
    publish,
    query,
    redetect,
    report,
    rules,
    serve,
    settings,
    simulate,
    sources,
    status,
    summary,
    topics,
    tracks,
)
from imgpipeline.cli.output import note, show_error, write_text
from imgpipeline.errors import ImgpipelineError, UsageError
from imgpipeline.settings.loading import unknown_settings

_EMPTY_OPTION = re.compile(r"(--?[a-z][a-z-]*)=")

app = typer.Typer(
    name="imgpipeline",
    help="Count what cameras see, from Kafka frames to DuckDB numbers, and prove that no frame was lost or counted "
    "twice.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_ingest = typer.Typer(help="Store images and announce them as frames.")
_models = typer.Typer(help="List, download, convert, quantize, measure and compare detection models.")

app.command("demo")(demo.demo)
app.command("detect")(detect.detect)
app.command("doctor")(doctor.doctor)
app.command("health")(doctor.health)
app.add_typer(_ingest, name="ingest")
_ingest.command("folder")(ingest_files.folder)
_ingest.command("video")(ingest_files.video)
_ingest.command("sequence")(ingest_files.sequence)
_ingest.command("s3")(ingest_stored.s3)
_ingest.command("replay")(ingest_stored.replay)
_ingest.command("rtsp")(ingest_live.rtsp)
_ingest.command("mqtt")(ingest_live.mqtt)
app.command("prepare")(prepare.prepare)
app.add_typer(serve.ingest_app, name="serve-ingest")
app.command("serve")(serve.serve)
app.add_typer(serve.keys_app, name="keys")
app.add_typer(imports.app, name="import")
app.add_typer(topics.app, name="topics")
app.add_typer(sources.app, name="sources")
app.add_typer(simulate.app, name="simulate")
app.add_typer(images.app, name="images")
app.command("build")(build.build)
app.command("status")(status.status)
app.command("audit")(audit.audit)
app.add_typer(ledger.app, name="ledger")
app.add_typer(explain.app, name="explain")
app.add_typer(frames.app, name="frames")
app.add_typer(summary.app, name="summary")
app.command("query")(query.query)
app.add_typer(tracks.app, name="tracks")
app.add_typer(export.app, name="export")
app.command("redetect")(redetect.redetect)
app.command("compare-models")(redetect.compare_models)
app.command("report")(report.report)
app.add_typer(publish.app, name="publish")
app.add_typer(rules.app, name="rules")
app.add_typer(events.app, name="events")
app.add_typer(alerts.app, name="alerts")
app.add_typer(mapreduce.app, name="mapreduce")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(_models, name="models")
_models.command("list")(models.list_all)
_models.command("pull")(models.pull)
_models.command("bench")(models.bench)
_models.command("tune")(models.tune)
_models.command("add")(models_own.add)
_models.command("check")(models_own.check)
_models.command("convert")(models_own.convert)
_models.command("compare")(models_compare.compare)
_models.command("quantize")(models_compare.quantize)
app.add_typer(settings.app, name="settings")


def unwrap_help(of: typer.Typer) -> None:
    """Joins the lines of each paragraph in all help texts, so they wrap at the terminal's width.

    Typer itself does so only for the first paragraph. Lists and examples keep their lines.

    Args:
        of: An app whose commands and groups are all registered.
    """
    for command in of.registered_commands:
        command.help = _joined(command.help or inspect.getdoc(command.callback))
    for group in of.registered_groups:
        if group.typer_instance is not None:
            unwrap_help(group.typer_instance)


def _joined(text: str | None) -> str | None:
    if text is None:
        return None
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(part if _is_list_or_example(part) else " ".join(part.split("\n")) for part in paragraphs)


def _is_list_or_example(paragraph: str) -> bool:
    return any(line.startswith((" ", "* ", "- ", "\b")) for line in paragraph.split("\n"))


unwrap_help(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        write_text(f"imgpipeline {__version__}\n")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[  # noqa: ARG001 - its callback has shown it and ended the command
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log each step on stderr.")] = False,
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    if not verbose:
        # kafka-python logs every failed attempt to connect; the error message names the final failure and its cause.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
    for unknown in unknown_settings():
        note(f"Warning: {unknown}")


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
