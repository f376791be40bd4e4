"""`imgpipeline publish`: results as records of a Kafka topic, each exactly once."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.output import JsonOption, note, show_json
from imgpipeline.cli.stopping import stopped_by_signals
from imgpipeline.contracts.counts import counted
from imgpipeline.errors import ImgpipelineError, TransientError
from imgpipeline.publish.options import Form, Kind
from imgpipeline.settings import load_settings, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

app = typer.Typer(help="Publish results to Kafka, each exactly once.")
_LOOK_AGAIN_S = 2.0
_TRY_AGAIN_S = 5.0


@app.callback()
def _group() -> None:
    """Publish results to Kafka, each exactly once."""


TopicOption = Annotated[str, typer.Option("--topic", help="Kafka topic; it must exist.")]
FormOption = Annotated[
    Form, typer.Option("--format", help="native: our own documents. classic: as classic detectors and trackers.")
]
EventFormOption = Annotated[
    Form,
    typer.Option(
        "--format",
        help="native: rows of the table `events`. classic: alerts as {image_event_num, image_event_db_path}, as "
        "change-alert pipelines write them.",
    ),
]
KindOption = Annotated[
    Kind | None, typer.Option("--kind", help="Only cars or only people. Frames without one are published too.")
]
FollowOption = Annotated[bool, typer.Option("--follow", help="Go on as new results come, until stopped.")]


@app.command("detections")
def detections(
    topic: TopicOption,
    form: FormOption = Form.NATIVE,
    kind: KindOption = None,
    follow: FollowOption = False,
    as_json: JsonOption = False,
) -> None:
    """Publish what was found in each frame, from where the last call ended.

    Each frame is one record with its source as the key. Records and checkpoint are committed together: consumers with
    isolation.level=read_committed see each frame exactly once, also when this command is killed.
    """
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore
    from imgpipeline.publish.detections import Wanted, publish_detections  # noqa: PLC0415 - loads kafka-python

    settings = load_settings()
    publish = partial(publish_detections, open_store(settings), settings, Wanted(topic, form, kind))
    _run(publish, topic, follow=follow, as_json=as_json)


@app.command("tracks")
def tracks(
    topic: TopicOption,
    form: FormOption = Form.NATIVE,
    kind: KindOption = None,
    follow: FollowOption = False,
    as_json: JsonOption = False,
) -> None:
    """Publish the tracks in each frame, slice by slice, from where the last call ended.

    Ten minutes of a source are published when tracks of them and of the minute after are built, or when nothing of the
    source was processed for ten minutes. Otherwise as `publish detections`.
    """
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore
    from imgpipeline.publish.tracks import WantedTracks, publish_tracks  # noqa: PLC0415 - loads DuckDB

    settings = load_settings()
    wanted = WantedTracks(topic, form, kind)
    publish = partial(publish_tracks, open_store(settings), settings, wanted, clock=utc_now)
    _run(publish, topic, follow=follow, as_json=as_json)


@app.command("events")
def events(
    topic: TopicOption,
    form: EventFormOption = Form.NATIVE,
    follow: FollowOption = False,
    as_json: JsonOption = False,
) -> None:
    """Publish the events of each source, ten minutes at a time, from where the last call ended.

    native: each row of the table `events`, when its ten minutes are over and built. classic: each alert, as soon as it
    is raised. Otherwise as `publish detections`.
    """
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore
    from imgpipeline.publish.alerts import publish_alerts  # noqa: PLC0415 - loads kafka-python
    from imgpipeline.publish.events import publish_events  # noqa: PLC0415 - loads DuckDB

    settings = load_settings()
    given = (open_store(settings), settings, topic)
    if form is Form.CLASSIC:
        _run(partial(publish_alerts, *given), topic, noun="alert", follow=follow, as_json=as_json)
    else:
        _run(partial(publish_events, *given, clock=utc_now), topic, noun="event", follow=follow, as_json=as_json)


def _run(publish: "Callable[..., int]", topic: str, *, noun: str = "frame", follow: bool, as_json: bool) -> None:
    total = 0

    def add(count: int) -> None:
        nonlocal total
        total += count

    with stopped_by_signals() as stopping:

        def goes_on() -> bool:
            return follow and not stopping.event.wait(_LOOK_AGAIN_S)

        _repeat(partial(publish, goes_on=goes_on, progress=add), stopping.event if follow else None)
    if as_json:
        show_json({"topic": topic, "published": total})
    else:
        note(f"{counted(total, noun)} published on the topic {topic}.")
    raise typer.Exit(stopping.exit_status)


def _repeat(publish: "Callable[[], object]", stop: "Event | None") -> None:
    """Publishes; with an event, tries again after errors that pass."""
    while True:
        try:
            publish()
        except TransientError as error:
            if stop is None:
                raise
            _say(error)
            if not stop.wait(_TRY_AGAIN_S):
                continue
        return


def _say(error: ImgpipelineError) -> None:
    note(f"{error.message} Trying again in {_TRY_AGAIN_S:.0f} s.")
