"""`imgpipeline publish`: results as records of a Kafka topic, each exactly once, and events by MQTT."""

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.output import JsonOption, note, show_json
from imgpipeline.cli.stopping import stopped_by_signals
from imgpipeline.contracts.detection import Kind
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ImgpipelineError, TransientError, UsageError
from imgpipeline.publish.options import Form, Wanted
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date
    from threading import Event

    from imgpipeline.objectstore import ObjectStore
    from imgpipeline.settings import Settings

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
MqttOption = Annotated[
    bool,
    typer.Option("--mqtt", help="By MQTT instead of Kafka, so that Home Assistant finds the events by discovery."),
]
KindOption = Annotated[
    Kind | None, typer.Option("--kind", help="Only cars or only people. Frames without one are published too.")
]
FollowOption = Annotated[bool, typer.Option("--follow", help="Continue with new results until stopped.")]


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
    from imgpipeline.publish.detections import publish_detections  # noqa: PLC0415 - loads kafka-python

    settings = load_settings()
    publish = partial(publish_detections, open_store(settings), settings, Wanted(topic, form, kind))
    _run(publish, Target("topic", topic), follow=follow, as_json=as_json)


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
    from imgpipeline.publish.tracks import publish_tracks  # noqa: PLC0415 - loads DuckDB

    settings = load_settings()
    wanted = Wanted(topic, form, kind)
    target = Target("topic", topic)
    publish = partial(publish_tracks, open_store(settings), settings, wanted, clock=utc_now, held=target.hold)
    _run(publish, target, follow=follow, as_json=as_json)


@app.command("events")
def events(
    topic: Annotated[str | None, typer.Option("--topic", help="Kafka topic; it must exist.")] = None,
    form: EventFormOption = Form.NATIVE,
    mqtt: MqttOption = False,
    follow: FollowOption = False,
    as_json: JsonOption = False,
) -> None:
    """Publish the events of each source to Kafka or MQTT, from where the last call ended.

    native: each row of the table `events`, when its ten minutes are over and built. classic: each alert, as soon as it
    is raised. Otherwise as `publish detections`. --mqtt: each alert at least once, with its event_id.
    """
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    if (topic is None) is not mqtt:
        raise UsageError(
            "--topic and --mqtt are both given." if mqtt else "Neither --topic nor --mqtt is given.",
            next_step="give --topic for Kafka, or --mqtt for Home Assistant",
        )
    settings = load_settings()
    _run(*_event_publisher(open_store(settings), settings, topic, form), follow=follow, as_json=as_json)


def _event_publisher(
    store: "ObjectStore", settings: "Settings", topic: str | None, form: Form
) -> "tuple[Callable[..., int], Target]":
    """Returns what publishes events, and where; without a topic by MQTT."""
    if topic is None:
        from imgpipeline.publish.home_assistant import publish_to_home_assistant  # noqa: PLC0415 - loads paho

        target = Target("mqtt", f"{settings.mqtt_host}:{settings.mqtt_port}", "alert")
        return partial(publish_to_home_assistant, store, settings, clock=utc_now), target
    if form is Form.CLASSIC:
        from imgpipeline.publish.alerts import publish_alerts  # noqa: PLC0415 - loads kafka-python

        return partial(publish_alerts, store, settings, topic), Target("topic", topic, "alert")
    from imgpipeline.publish.events import publish_events  # noqa: PLC0415 - loads DuckDB

    target = Target("topic", topic, "event")
    return partial(publish_events, store, settings, topic, clock=utc_now, held=target.hold), target


@dataclass(slots=True)
class Target:
    """Where something is published, and what waits."""

    kind: str
    """`topic` (of Kafka) or `mqtt`."""
    name: str
    """The topic, or host and port of the MQTT broker."""
    noun: str = "frame"
    """What a record is about."""

    _held: set["date"] = field(default_factory=set)

    def hold(self, day: "date") -> None:
        """Notes that a day and all later ones wait for a build."""
        self._held.add(day)

    def waiting(self) -> str | None:
        """Returns the sentence that says what waits for a build; None if nothing does."""
        if not self._held:
            return None
        day = max(self._held)
        return (
            f"{day} and later days wait: what is built of this day is older than its frames. Dagster builds it, or "
            f"imgpipeline tracks build --day {day}, and for events also imgpipeline events build --day {day}."
        )

    def report(self, count: int) -> str:
        """Returns the sentence that says what was published."""
        where = "on the topic" if self.kind == "topic" else "to the MQTT broker"
        return f"{counted(count, self.noun)} published {where} {self.name}."


def _run(publish: "Callable[..., int]", target: Target, *, follow: bool, as_json: bool) -> None:
    total = 0

    def add(count: int) -> None:
        nonlocal total
        total += count

    with stopped_by_signals() as stopping:

        def goes_on() -> bool:
            return follow and not stopping.event.wait(_LOOK_AGAIN_S)

        _repeat(partial(publish, goes_on=goes_on, progress=add), stopping.event if follow else None)
    if as_json:
        show_json({target.kind: target.name, "published": total})
    else:
        note(target.report(total))
        waiting = None if follow else target.waiting()
        if waiting:
            note(waiting)
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
