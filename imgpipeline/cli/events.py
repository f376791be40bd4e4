"""`imgpipeline rules`, `events` and `alerts`: rules for events, the events that they find, and who is notified."""

import getpass
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from imgpipeline.cli.options import (
    DurationOption,
    JsonOption,
    LatestOption,
    OutputFileOption,
    Period,
    RowFormat,
    SourceOption,
    command,
    open_site,
)
from imgpipeline.cli.output import (
    note,
    note_latest,
    show_json,
    show_table,
    shown,
    write_file,
)
from imgpipeline.cli.running import stopped_by_signals
from imgpipeline.contracts.keys import rules_key
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import format_time, utc_now
from imgpipeline.errors import BadInputError, PermanentError, UsageError
from imgpipeline.events.alerts import delivery, listing
from imgpipeline.events.alerts.delivery import check_names, delivering, read_targets, send
from imgpipeline.events.alerts.listing import ListedAlert, write_image
from imgpipeline.events.alerts.watching import Watch
from imgpipeline.events.clips import ClipWish, write_event_clip
from imgpipeline.events.configuration import STORED, Rules, load_rules, read_rules
from imgpipeline.events.draw import draw_places
from imgpipeline.events.reading import read_event
from imgpipeline.lake.days.summary_inputs import list_versions
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.query.events import WantedEvents, find_events
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.settings import Settings, load_settings
from imgpipeline.vision.annotate import encode_jpeg
from imgpipeline.vision.decode import ImageLimits, decode_image

rules_app = typer.Typer()
app = typer.Typer()
alerts_app = typer.Typer()
FileArgument = Annotated[
    Path | None, typer.Argument(help="The rules. Default: IMGPIPELINE_RULES_FILE.", metavar="[FILE]")
]


@command(rules_app, "check")
def check(file: FileArgument = None, *, rows: RowFormat) -> None:
    """Check rules, and list them with the zones and lines that they use.

    Exits with status 1 if a rule is invalid; the message names line and field.
    """
    rules = load_rules(file) if file else _configured_rules(*open_site())
    records = [
        {
            "rule": rule.name,
            "kind": rule.kind,
            "sources": ", ".join(rules.sources_of(rule)) or "all",
            "zone or line": ", ".join(rule.places) or None,
            "notifies": ", ".join(rule.notify) or "all targets",
        }
        for rule in rules.rule
    ]
    rows.show(records, fields=("rule", "kind", "sources", "zone or line", "notifies"))
    counts = (counted(len(rules.zone), "zone"), counted(len(rules.line), "line"), counted(len(rules.rule), "rule"))
    note(f"The rules are valid: {', '.join(counts)}.")


@command(rules_app, "put")
def put(file: Annotated[Path, typer.Argument(help="The rules.", metavar="FILE")]) -> None:
    """Check rules and store them in the object store, for IMGPIPELINE_RULES_FILE=store.

    Builds then use them for the current day. Past days keep the rules that they were built with until they are built
    again.
    """
    rules = load_rules(file)
    settings, store = open_site()
    store.put(rules_key(), file.read_bytes())
    note(f"Stored {counted(len(rules.rule), 'rule')} as {store.url}/{rules_key()}.")
    if settings.rules_file != STORED:
        note(f"They are not used yet: set IMGPIPELINE_RULES_FILE={STORED}.")


@command(rules_app, "draw")
def draw(
    frame: Annotated[str, typer.Argument(help="An image: a file, s3://bucket/key, or a key of the store.")],
    rules_file: Annotated[
        Path | None, typer.Option("--rules", help="The rules. Default: IMGPIPELINE_RULES_FILE.")
    ] = None,
    source: Annotated[str | None, typer.Option("--source", help="Draw the zones and lines of this source.")] = None,
    output: OutputFileOption = Path("rules.jpg"),
) -> None:
    """Draw the zones and lines of a source on an image, as a JPEG file.

    The arrow of a line shows its forward direction.
    """
    settings, store = open_site()
    rules = load_rules(rules_file) if rules_file else _configured_rules(settings, store)
    wanted = _source_of(rules, source)
    places = [place for place in rules.places if place.source == wanted]
    limits = ImageLimits(settings.max_image_pixels, settings.max_image_bytes)
    path = Path(frame)
    data = path.read_bytes() if path.is_file() else ImageReader(store, settings).read(frame).data
    drawn = draw_places(decode_image(data, limits).pixels, places)
    write_file(output, encode_jpeg(drawn))
    note(f"Drew {', '.join(place.name for place in places)} on {output}.")


def _configured_rules(settings: "Settings", store: "ObjectStore") -> "Rules":
    if settings.rules_file is None:
        raise UsageError("No rules are given.", next_step="set IMGPIPELINE_RULES_FILE; docs/events.md shows how")
    return read_rules(settings, store)


def _source_of(rules: "Rules", source: str | None) -> str:
    sources = sorted({place.source for place in rules.places})
    if source is None and len(sources) == 1:
        return sources[0]
    if source not in sources:
        names = ", ".join(sources) or "none"
        raise UsageError(
            "--source is missing." if source is None else f"--source is {source!r}, which has no zones or lines.",
            next_step=f"name one of: {names}",
        )
    return source


_EVENTS = ("timestamp", "rule", "source", "place", "label", "reason", "event_id")


@command(app, "list")
def list_events(
    period: Period,
    rule: Annotated[str | None, typer.Option(help="Only events of this rule.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only events of rules of this kind, such as image_change.")] = None,
    source: SourceOption = None,
    limit: LatestOption = 100,
    *,
    rows: RowFormat,
) -> None:
    """List events, latest first. --json and --csv show all columns: frames, images, times.

    Without --day, --from and --to, lists the events of all UTC days. Events are found when the tables of a day are
    built, so those of the last minutes may be missing.
    """
    span = period.span()
    settings, store = open_site()
    found, matching = find_events(store, settings, span, WantedEvents(rule, source, kind), limit)
    events = found.to_pylist()
    empty = None if events else f"No events match ({span}){_why_none(store, settings, span)}."
    rows.show(events, _EVENTS, fields=found.column_names, empty=empty)
    note_latest(len(events), matching, f"events ({span})")


def _why_none(store: "ObjectStore", settings: "Settings", span: Span) -> str:
    if settings.rules_file is None:
        return "; IMGPIPELINE_RULES_FILE is not set, so no events are built"
    if not any(day in span for day in list_versions(store, "events")):
        return "; no events are built for these days: Dagster builds them, or imgpipeline build --day 2026-01-09"
    return ""


@command(app, "clip")
def clip(
    event_id: Annotated[str, typer.Argument(help="The event, as shown by `events list`.", metavar="EVENT_ID")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write, .mp4 or .gif.", metavar="FILE")],
    before_s: Annotated[float, typer.Option("--before", min=0, help="Seconds before the event.")] = 5.0,
    after_s: Annotated[float, typer.Option("--after", min=0, help="Seconds after the event.")] = 5.0,
    speed: Annotated[float, typer.Option("--speed", min=0.01, help="Playback speed; 2 is twice as fast.")] = 1.0,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Maximum number of frames; a longer clip is cut.")] = 600,
    as_json: JsonOption = False,
) -> None:
    """Write the frames before, during and after an event as a video or an animated GIF.

    Each frame is shown with its boxes until the time of the next frame. A grey frame with a note replaces a missing
    image, for example one that image retention has deleted.
    """
    settings, store = open_site()
    event = read_event(store, settings, event_id)
    made = write_event_clip(store, settings, event, output, ClipWish(before_s, after_s, speed, limit))
    if as_json:
        show_json(made)
        return
    missing = f", {made.missing} without an image" if made.missing else ""
    note(f"Wrote {counted(made.frames, 'frame')} to {output}, {shown(made.first)} to {shown(made.last)}{missing}.")
    if made.is_cut:
        note("The event has more frames; --limit shows more.")


NumberArgument = Annotated[int, typer.Argument(min=1, help="Number of the alert.", metavar="N")]


_ALERTS = ("number", "timestamp", "rule", "source", "reason", "delivered", "acknowledged")


@command(alerts_app, "list")
def list_alerts(limit: LatestOption = 100, *, rows: RowFormat) -> None:
    """List alerts, latest first."""
    _, store = open_site()
    listed, in_all = listing.list_alerts(store, limit=limit)
    empty = "There are no alerts. `imgpipeline alerts watch` raises them."
    records = [each.to_json() | {"timestamp": each.alert.event.timestamp} for each in listed]
    rows.show(records, _ALERTS, empty=empty)
    note_latest(len(listed), in_all, "alerts")


@command(alerts_app, "show")
def show_alert(
    number: NumberArgument,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the images of the alert to this folder.", metavar="DIR")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show an alert: its event, images, delivery attempts and acknowledgements."""
    settings, store = open_site()
    listed = ListedAlert.read(store, number)
    if as_json:
        show_json(listed.to_json())
    else:
        shown = {name: str(value) for name, value in listed.to_json().items() if isinstance(value, str | int | float)}
        shown["notify"] = ", ".join(listed.alert.notify) or "all targets"
        show_table(("field", "value"), [[name, value] for name, value in shown.items()])
        show_table(("image", "path"), listed.alert.images)
        for given in listed.acknowledgements:
            note(f"Acknowledged by {given.by} at {format_time(given.at)}. {given.note}".rstrip())
    if output is None:
        return
    missing = []
    for name, path in listed.named_images:
        try:
            note(f"Wrote {write_image(ImageReader(store, settings), path, output, name)}.")
        except BadInputError as error:
            missing.append(f"{path}: {error.message}")
    if missing:
        raise PermanentError(f"{counted(len(missing), 'image')} could not be read. {'; '.join(missing)}")


@command(alerts_app, "acknowledge")
def acknowledge(
    number: NumberArgument,
    *,
    text: Annotated[str, typer.Option("--note", help="What the alert was about.")] = "",
    by: Annotated[str | None, typer.Option("--by", help="Who acknowledges it. Default: your user name.")] = None,
) -> None:
    """Record who has seen an alert, and when. Earlier acknowledgements are kept."""
    who = by or getpass.getuser()
    _, store = open_site()
    listing.acknowledge(store, number, listing.Acknowledgement(who, utc_now(), text))
    note(f"Alert {number} is acknowledged by {who}.")


@command(alerts_app, "watch")
def watch(duration_s: DurationOption = None) -> None:
    """Follow the ledger, raise an alert for each event, and deliver the alerts.

    Several watches can run at once: an event gets one alert. Ctrl-C or SIGTERM stops.
    """
    settings, store = open_site()
    rules = _configured_rules(settings, store)
    check_names(read_targets(settings), rules)
    following, count = Watch(store, settings, rules, utc_now), 0
    note(f"Watching for events of {counted(len(rules.rule), 'rule')}. Ctrl-C stops.")
    with stopped_by_signals() as stopping, delivering(store, settings, utc_now):
        for alert in chain.from_iterable(following.run(stopping.event, seconds=duration_s)):
            note(f"Alert {alert.number}: {alert.event.rule} at {alert.event.source}, {alert.event.reason}.")
            count += 1
    note(f"{counted(count, 'alert')} raised; events older than {settings.alert_max_age_s:,.0f} s raise none.")
    raise typer.Exit(stopping.exit_status)


@command(alerts_app, "deliver")
def deliver(
    retry: Annotated[bool, typer.Option("--retry", help="Also send alerts that wait for their next attempt.")] = False,
) -> None:
    """Send the due alerts to the targets that do not have them yet.

    Exits with status 1 if a target did not accept an alert; the alert is sent again later.
    """
    settings, store = open_site()
    if settings.alert_targets is None:
        raise _no_targets()
    done = delivery.deliver(store, settings, now=utc_now(), is_retry=retry)
    note(f"Delivered {counted(done.delivered, 'alert')}; {done.failed} failed, {done.waiting} waiting.")
    if done.failed:
        raise typer.Exit(1)


@command(alerts_app, "test")
def test() -> None:
    """Send a test message to each target.

    Exits with status 1 if a target does not accept it.
    """
    targets = read_targets(load_settings())
    if not targets:
        raise _no_targets()
    sent = [send(target, "imgpipeline: test", "This is a test of the alerts.") for target in targets]
    names = [", ".join(sorted(target.names)) or None for target in targets]
    show_table(("target", "names", "accepted"), zip([target.name for target in targets], names, sent, strict=True))
    if not all(sent):
        raise typer.Exit(1)


def _no_targets() -> UsageError:
    return UsageError("No targets are set.", next_step="set IMGPIPELINE_ALERT_TARGETS; docs/events.md shows how")
