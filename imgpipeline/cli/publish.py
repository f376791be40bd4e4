"""`imgpipeline publish`: publish results to Kafka, exactly once, and events to Home Assistant by MQTT."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from imgpipeline.cli.options import FollowOption, JsonOption, command, open_site
from imgpipeline.cli.output import note, show_json
from imgpipeline.cli.running import stopped_by_signals
from imgpipeline.contracts.detection import Kind
from imgpipeline.contracts.text import counted
from imgpipeline.errors import TransientError, UsageError
from imgpipeline.publish.alerts import publish_alerts, publish_to_home_assistant
from imgpipeline.publish.detections import publish_detections
from imgpipeline.publish.live_tracks import publish_live_tracks
from imgpipeline.publish.slices import publish_events, publish_tracks
from imgpipeline.publish.transactions import Form, Publication, Run
from imgpipeline.settings import Settings, load_settings

Publish = Callable[[Run], int]
app = typer.Typer()
_WHERE = {"topic": "on the topic", "file": "to the file", "mqtt": "to the MQTT broker"}
_POLL_S = 2.0
_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class FrameOptions:
    """The options for publishing the results of frames."""

    topic: Annotated[str | None, typer.Option("--topic", help="An existing Kafka topic.")] = None
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv-file", metavar="FILE", help="Append rows in classic form to this file instead."),
    ] = None
    form: Annotated[
        Form,
        typer.Option(
            "--format", help="native: the project's own documents. classic: like classic detectors and trackers."
        ),
    ] = Form.NATIVE
    kind: Annotated[
        Kind | None, typer.Option("--kind", help="Only cars or only people. Frames without any are published too.")
    ] = None
    follow: FollowOption = False
    as_json: JsonOption = False

    def publish(self, publish: "Callable[[Run, Publication], int]") -> None:
        """Publishes on the topic, or appends to the file."""
        if (self.topic is None) is (self.csv_file is None):
            given = "both given" if self.topic else "both missing"
            raise UsageError(f"--topic and --csv-file are {given}.", next_step="give one of them")
        form = Form.CLASSIC if self.csv_file else self.form
        wanted = Publication(self.topic or "", form, self.kind, self.csv_file)
        target = Target("file", str(self.csv_file)) if self.csv_file else Target("topic", wanted.topic)
        _publish(lambda run: publish(run, wanted), target, follow=self.follow, as_json=self.as_json)


@command(app, "detections")
def detections(wanted: FrameOptions) -> None:
    """Publish the detections of each frame, continuing after the last call.

    On a topic, each frame is one record with its source as the key. Records and checkpoint are committed together:
    consumers with isolation.level=read_committed see each frame exactly once, even if this command is killed. In a
    file, each detection is one row, exactly once as well.
    """
    wanted.publish(publish_detections)


@command(app, "tracks")
def tracks(
    wanted: FrameOptions,
    live: Annotated[
        bool, typer.Option("--live", help="Publish provisional tracks at once, instead of the built ones.")
    ] = False,
) -> None:
    """Publish the tracks in each frame, continuing after the last call.

    Ten minutes of a source are published once the tracks of these ten minutes and of the minute after them are built,
    or once no frame of the source was processed for ten minutes. With --live, each frame is published when the ledger
    has it, with the tracks so far. Otherwise like `publish detections`.
    """
    wanted.publish(publish_live_tracks if live else publish_tracks)


@command(app, "events")
def events(
    topic: Annotated[str | None, typer.Option("--topic", help="An existing Kafka topic.")] = None,
    form: Annotated[
        Form,
        typer.Option(
            "--format",
            help="native: rows of the table `events`. classic: alerts as {image_event_num, image_event_db_path}, like "
            "change-alert pipelines.",
        ),
    ] = Form.NATIVE,
    mqtt: Annotated[
        bool, typer.Option("--mqtt", help="Publish by MQTT instead of Kafka, for discovery by Home Assistant.")
    ] = False,
    follow: FollowOption = False,
    as_json: JsonOption = False,
) -> None:
    """Publish the events of each source to Kafka or MQTT, continuing after the last call.

    native: each row of the table `events`, once its ten minutes are over and built. classic: each alert, as soon as it
    is raised. Otherwise like `publish detections`. --mqtt: each alert at least once, with its event_id.
    """
    if (topic is None) is not mqtt:
        raise UsageError(
            "--topic and --mqtt are both given." if mqtt else "Neither --topic nor --mqtt is given.",
            next_step="give --topic for Kafka, or --mqtt for Home Assistant",
        )
    publish, target = _event_publisher(load_settings(), topic, form)
    _publish(publish, target, follow=follow, as_json=as_json)


def _event_publisher(settings: Settings, topic: str | None, form: Form) -> "tuple[Publish, Target]":
    """Returns what publishes events and where: on a topic, or by MQTT."""
    if topic is None:
        return publish_to_home_assistant, Target("mqtt", f"{settings.mqtt_host}:{settings.mqtt_port}", "alert")
    if form is Form.CLASSIC:
        return lambda run: publish_alerts(run, topic), Target("topic", topic, "alert")
    return lambda run: publish_events(run, topic), Target("topic", topic, "event")


@dataclass(frozen=True, slots=True)
class Target:
    """Where results are published."""

    kind: str
    """`topic` (of Kafka), `file` or `mqtt`."""
    name: str
    """The topic, the file, or host and port of the MQTT broker."""
    noun: str = "frame"
    """What a record is about."""


def _publish(publish: "Publish", target: Target, *, follow: bool, as_json: bool) -> None:
    settings, store = open_site()
    total = 0
    waiting: set[date] = set()

    def add(count: int) -> None:
        nonlocal total
        total += count

    run = Run(store, settings, progress=add, on_waiting=waiting.add)
    with stopped_by_signals() as stopping:
        following = replace(run, should_continue=lambda: follow and not stopping.event.wait(_POLL_S))
        _publish_or_retry(publish, following, stopping.event if follow else None)
    if as_json:
        show_json({target.kind: target.name, "published": total})
    else:
        note(f"{counted(total, target.noun)} published {_WHERE[target.kind]} {target.name}.")
        if waiting and not follow:
            day = max(waiting)
            note(
                f"{day} and later days wait: the results of this day are older than its frames. Dagster builds them, "
                f"or imgpipeline build --day {day}."
            )
    raise typer.Exit(stopping.exit_status)


def _publish_or_retry(publish: "Publish", run: Run, stop: Event | None) -> None:
    """Publishes. With an event, retries after transient errors until the event is set."""
    while True:
        try:
            publish(run)
        except TransientError as error:
            if stop is None:
                raise
            note(f"{error.message} Trying again in {_RETRY_S:.0f} s.")
            if not stop.wait(_RETRY_S):
                continue
        return
