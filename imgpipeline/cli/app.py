"""The command line as a whole: the tree of commands, the global options, and how errors are shown.

Exit statuses: 0 success, 1 failure or a problem found, 2 wrong usage, 130 stopped by Ctrl-C.
`IMGPIPELINE_TRACEBACK=1` shows the traceback of an unexpected error.
"""

import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final

import typer
from typer.exceptions import TyperException

from imgpipeline import __version__
from imgpipeline.cli import (
    audit,
    build,
    dead_letters,
    detect,
    doctor,
    events,
    export,
    frames,
    imports,
    ingest,
    ingest_live,
    ledger,
    mapreduce,
    models,
    publish,
    redetect,
    serve,
    simulate,
    sources,
    summary,
    topics,
    tracks,
)
from imgpipeline.cli.options import command
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
_COMMANDS: Final[Mapping[str, Callable[..., None]]] = {
    "demo": simulate.demo,
    "detect": detect.detect,
    "doctor": doctor.doctor,
    "health": doctor.health,
    "settings": doctor.show_settings,
    "prepare": ingest.prepare,
    "serve-ingest": serve.serve_ingest,
    "serve": serve.serve,
    "build": build.build,
    "status": audit.status,
    "audit": audit.audit,
    "query": summary.query,
    "explain": frames.explain,
    "report": summary.report,
    "redetect": redetect.redetect,
}
_GROUPS: Final[Mapping[str, typer.Typer]] = {
    "ingest": ingest.app,
    "import": imports.app,
    "topics": topics.app,
    "sources": sources.app,
    "simulate": simulate.app,
    "keys": serve.keys_app,
    "ledger": ledger.app,
    "dead-letters": dead_letters.app,
    "frames": frames.app,
    "images": frames.images_app,
    "summary": summary.app,
    "tracks": tracks.app,
    "rules": events.rules_app,
    "events": events.app,
    "alerts": events.alerts_app,
    "models": models.app,
    "export": export.app,
    "publish": publish.app,
    "mapreduce": mapreduce.app,
}
for _name, _function in _COMMANDS.items():
    command(app, _name)(_function)
for _name, _group in _GROUPS.items():
    app.add_typer(_group, name=_name)
command(ingest.app, "rtsp")(ingest_live.rtsp)
command(ingest.app, "mqtt")(ingest_live.mqtt)
command(models.app, "compare")(redetect.compare)
command(models.app, "quantize")(redetect.quantize)


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
