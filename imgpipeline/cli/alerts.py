"""`imgpipeline alerts`: raise, deliver, show and acknowledge alerts."""

import getpass
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from imgpipeline.cli.options import JsonOption, LatestOption
from imgpipeline.cli.output import note, show_json, show_records, show_table
from imgpipeline.cli.stopping import stopped_by_signals
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import format_time, utc_now
from imgpipeline.errors import BadInputError, PermanentError, UsageError
from imgpipeline.settings import load_settings

app = typer.Typer(help="Raise, deliver, show and acknowledge alerts: events that someone is notified about.")
NumberArgument = Annotated[int, typer.Argument(min=1, help="Number of the alert.", metavar="N")]


@app.command("list")
def list_them(
    *,
    limit: LatestOption = 100,
    as_json: JsonOption = False,
) -> None:
    """List alerts, latest first."""
    from imgpipeline.events.alerts.listing import list_alerts  # noqa: PLC0415 - loads obstore
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    listed, in_all = list_alerts(open_store(load_settings()), limit=limit)
    if as_json:
        show_json([each.to_json() for each in listed])
    elif listed:
        names = ("number", "timestamp", "rule", "source", "reason", "delivered", "acknowledged")
        show_records([{**each.to_json(), "timestamp": each.alert.event.timestamp} for each in listed], names)
    else:
        note("There are no alerts. `imgpipeline alerts watch` raises them.")
    if in_all > len(listed):
        note(f"Showing the latest {len(listed):,} of {in_all:,} alerts; --limit shows more.")


@app.command("show")
def show(
    number: NumberArgument,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the images of the alert to this folder.", metavar="DIR")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show an alert: its event, images, delivery attempts and acknowledgements."""
    from imgpipeline.events.alerts.listing import ListedAlert, write_image  # noqa: PLC0415 - loads obstore
    from imgpipeline.objectstore import ImageReader, open_store  # noqa: PLC0415 - loads obstore

    settings = load_settings()
    store = open_store(settings)
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
    if out is None:
        return
    missing = []
    for name, path in listed.named_images:
        try:
            note(f"Wrote {write_image(ImageReader(store, settings), path, out, name)}.")
        except BadInputError as error:
            missing.append(f"{path}: {error.message}")
    if missing:
        raise PermanentError(f"{counted(len(missing), 'image')} could not be read. {'; '.join(missing)}")


@app.command("acknowledge")
def acknowledge_it(
    number: NumberArgument,
    *,
    text: Annotated[str, typer.Option("--note", help="What the alert was about.")] = "",
    by: Annotated[str | None, typer.Option("--by", help="Who acknowledges it. Default: your user name.")] = None,
) -> None:
    """Record who has seen an alert, and when. Earlier acknowledgements are kept."""
    from imgpipeline.events.alerts.listing import Acknowledgement, acknowledge  # noqa: PLC0415 - loads obstore
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    who = by or getpass.getuser()
    acknowledge(open_store(load_settings()), number, Acknowledgement(who, utc_now(), text))
    note(f"Alert {number} is acknowledged by {who}.")


@app.command("watch")
def watch_them(
    *,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="Stop after this many seconds. Default: run until stopped.")
    ] = None,
) -> None:
    """Follow the ledger, raise an alert for each event, and deliver the alerts.

    Several watches can run at once: an event gets one alert. Ctrl-C or SIGTERM stops.
    """
    from imgpipeline.events.alerts.delivery import delivering  # noqa: PLC0415 - loads obstore
    from imgpipeline.events.alerts.targets import check_names, read_targets  # noqa: PLC0415 - as above
    from imgpipeline.events.alerts.watching import Watch  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.events.configuration import read_rules  # noqa: PLC0415 - loads pydantic models
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    settings = load_settings()
    if settings.rules_file is None:
        raise UsageError("No rules are given.", next_step="set IMGPIPELINE_RULES_FILE; docs/events.md shows how")
    store = open_store(settings)
    rules = read_rules(settings, store)
    check_names(read_targets(settings), rules)
    watch, count = Watch(store, settings, rules, utc_now), 0
    note(f"Watching for events of {counted(len(rules.rule), 'rule')}. Ctrl-C stops.")
    with stopped_by_signals() as stopping, delivering(store, settings, utc_now):
        for alert in chain.from_iterable(watch.run(stopping.event, seconds=seconds)):
            note(f"Alert {alert.number}: {alert.event.rule} at {alert.event.source}, {alert.event.reason}.")
            count += 1
    note(f"{counted(count, 'alert')} raised; events older than {settings.alert_max_age_s:,.0f} s raise none.")
    raise typer.Exit(stopping.exit_status)


@app.command("deliver")
def deliver_them(
    *,
    retry: Annotated[
        bool, typer.Option("--retry", help="Also send alerts now that wait for their next attempt.")
    ] = False,
) -> None:
    """Send the due alerts to the targets that do not have them yet.

    Exits with status 1 if a target did not accept an alert; the alert is sent again later.
    """
    from imgpipeline.events.alerts.delivery import deliver  # noqa: PLC0415 - loads obstore
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    settings = load_settings()
    if settings.alert_targets is None:
        raise _no_targets()
    done = deliver(open_store(settings), settings, now=utc_now(), is_retry=retry)
    note(f"Delivered {counted(done.delivered, 'alert')}; {done.failed} failed, {done.waiting} waiting.")
    if done.failed:
        raise typer.Exit(1)


@app.command("test")
def test() -> None:
    """Send a test message to each target.

    Exits with status 1 if a target does not accept it.
    """
    from imgpipeline.events.alerts.targets import read_targets, send  # noqa: PLC0415 - loads obstore

    targets = read_targets(load_settings())
    if not targets:
        raise _no_targets()
    sent = [send(target, "imgpipeline: test", "This is a test of the alerts.") for target in targets]
    show_table(
        ("target", "names", "accepted"),
        [
            [target.name, ", ".join(sorted(target.names)) or None, accepted]
            for target, accepted in zip(targets, sent, strict=True)
        ],
    )
    if not all(sent):
        raise typer.Exit(1)


def _no_targets() -> UsageError:
    return UsageError("No targets are set.", next_step="set IMGPIPELINE_ALERT_TARGETS; docs/events.md shows how")
