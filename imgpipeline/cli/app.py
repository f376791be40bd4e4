"""The command line as a whole: its groups, its global options, and how errors are shown.

Exit statuses: 0 done, 1 failed or found a problem, 2 wrong usage, 130 stopped by Ctrl-C.
`IMGPIPELINE_TRACEBACK=1` shows the traceback of an unexpected error.
"""

import logging
import os
import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from imgpipeline import __version__
from imgpipeline.cli import (
    alerts,
    audit,
    bundle,
    dead_letters,
    demo,
    detect,
    doctor,
    events,
    explain,
    export,
    frames,
    health,
    images,
    imports,
    ingest,
    ingest_mqtt,
    ingest_replay,
    ingest_rtsp,
    ingest_s3,
    ingest_sequence,
    ingest_video,
    keys,
    ledger,
    mapreduce,
    models,
    new_chain,
    prepare,
    publish,
    query,
    redetect,
    repair,
    report,
    rules,
    serve,
    serve_ingest,
    settings,
    simulate,
    simulate_folder,
    simulate_mqtt,
    sources,
    sources_run,
    status,
    summary,
    topics,
    track_files,
    tracks,
)
from imgpipeline.cli.help_texts import unwrap_help
from imgpipeline.cli.output import note, show_error, write_text
from imgpipeline.cli.usage import as_usage_error, refuse_empty
from imgpipeline.errors import ImgpipelineError, UsageError
from imgpipeline.settings.loading import unknown_settings

app = typer.Typer(
    name="imgpipeline",
    help="Count what cameras see, from Kafka frames to DuckDB numbers; prove that no frame was lost or counted twice.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("demo")(demo.demo)
app.command("detect")(detect.detect)
app.command("doctor")(doctor.doctor)
app.command("health")(health.health)
app.add_typer(ingest.app, name="ingest")
ingest.app.command("video")(ingest_video.video)
ingest.app.command("sequence")(ingest_sequence.sequence)
ingest.app.command("s3")(ingest_s3.s3)
ingest.app.command("replay")(ingest_replay.replay)
app.command("prepare")(prepare.prepare)
ingest.app.command("rtsp")(ingest_rtsp.rtsp)
ingest.app.command("mqtt")(ingest_mqtt.mqtt)
app.add_typer(serve_ingest.app, name="serve-ingest")
app.command("serve")(serve.serve)
app.add_typer(keys.app, name="keys")
app.add_typer(imports.app, name="import")
app.add_typer(topics.app, name="topics")
sources.app.command("run")(sources_run.run)
app.add_typer(sources.app, name="sources")
app.add_typer(simulate.app, name="simulate")
simulate.app.command("mqtt")(simulate_mqtt.mqtt)
simulate.app.command("folder")(simulate_folder.folder)
app.add_typer(images.app, name="images")
app.command("status")(status.status)
app.command("audit")(audit.audit)
app.add_typer(ledger.app, name="ledger")
ledger.app.command("new-chain")(new_chain.new_chain)
ledger.app.command("repair")(repair.repair)
ledger.app.command("bundle")(bundle.bundle)
app.add_typer(explain.app, name="explain")
app.add_typer(frames.app, name="frames")
app.add_typer(summary.app, name="summary")
app.command("query")(query.query)
app.add_typer(tracks.app, name="tracks")
tracks.app.command("stats")(track_files.stats)
tracks.app.command("evaluate")(track_files.evaluate)
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
app.add_typer(models.app, name="models")
app.add_typer(settings.app, name="settings")
unwrap_help(app)  # last: it knows the commands that are registered by now


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
        # It logs every failed attempt to connect; what failed in the end is said once, with its cause.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
    for unknown in unknown_settings():
        note(f"Warning: {unknown}")


def main() -> None:
    """Runs the command of this process and ends it with its exit status."""
    try:
        refuse_empty(sys.argv[1:])
        sys.exit(app(prog_name="imgpipeline", standalone_mode=False))
    except TyperException as error:
        wrong_call = as_usage_error(error)
        show_error(wrong_call.message, wrong_call.next_step)
        sys.exit(error.exit_code)
    except ImgpipelineError as error:
        show_error(error.message, error.next_step)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except typer.Abort:
        show_error("Cancelled: the question was not answered with yes.", None)
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
