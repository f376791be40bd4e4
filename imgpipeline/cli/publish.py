"""`imgpipeline publish`: results as records of a Kafka topic, each exactly once."""

from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.output import JsonOption, note, show_json
from imgpipeline.cli.stopping import stopped_by_signals
from imgpipeline.contracts.counts import counted
from imgpipeline.errors import ImgpipelineError, TransientError
from imgpipeline.publish.options import Form, Kind
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

app = typer.Typer(help="Publish results to Kafka, each exactly once.")
_LOOK_AGAIN_S = 2.0
_TRY_AGAIN_S = 5.0


@app.callback()
def _group() -> None:
    """Publish results to Kafka, each exactly once."""


@app.command("detections")
def detections(
    topic: Annotated[str, typer.Option("--topic", help="Kafka topic; it must exist.")],
    form: Annotated[
        Form, typer.Option("--format", help="native: the frame's document. classic: as classic detectors.")
    ] = Form.NATIVE,
    kind: Annotated[
        Kind | None, typer.Option("--kind", help="Only detections of cars or people. Frames without one are published.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as new frames are processed, until stopped.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Publish what was found in each frame, from where the last call ended.

    Each frame is one record with its source as the key. Records and checkpoint are committed together: consumers with
    isolation.level=read_committed see each frame exactly once, also when this command is killed.
    """
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore
    from imgpipeline.publish.detections import Wanted, publish_detections  # noqa: PLC0415 - loads kafka-python

    settings = load_settings()
    store = open_store(settings)
    wanted = Wanted(topic, form, kind)
    total = 0

    def add(count: int) -> None:
        nonlocal total
        total += count

    with stopped_by_signals() as stopping:

        def goes_on() -> bool:
            return follow and not stopping.event.wait(_LOOK_AGAIN_S)

        def publish() -> None:
            publish_detections(store, settings, wanted, goes_on=goes_on, progress=add)

        _repeat(publish, stopping.event if follow else None)
    if as_json:
        show_json({"topic": topic, "published": total})
    else:
        note(f"{counted(total, 'frame')} published on the topic {topic}.")
    raise typer.Exit(stopping.exit_status)


def _repeat(publish: "Callable[[], None]", stop: "Event | None") -> None:
    """Publishes; with an event, tries again after errors that pass."""
    while True:
        try:
            return publish()
        except TransientError as error:
            if stop is None:
                raise
            _say(error)
            if stop.wait(_TRY_AGAIN_S):
                return None


def _say(error: ImgpipelineError) -> None:
    note(f"{error.message} Trying again in {_TRY_AGAIN_S:.0f} s.")
