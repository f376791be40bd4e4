"""`imgpipeline ingest mqtt`: stores the images of MQTT messages and announces them."""

from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.announcing import TopicOption
from imgpipeline.cli.output import JsonOption, note, show_json
from imgpipeline.cli.source_options import (
    HoursOption,
    MaskOption,
    MinBrightnessOption,
    MinChangeOption,
    MinSharpnessOption,
    ResizeOption,
    StoreGatedOption,
    preparation_of,
)
from imgpipeline.cli.stopping import stopped_by_signals
from imgpipeline.contracts.text import counted
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.settings import Settings
    from imgpipeline.sources.accounts import Totals
    from imgpipeline.sources.mqtt.messages import Subscription
    from imgpipeline.sources.options import Preparation


FilterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--mqtt-topic",
        metavar="FILTER",
        help="What to subscribe to, such as images/+/raw: what + and # match names the source. Can be repeated. "
        "Default: images/raw.",
    ),
]
SourceOption = Annotated[
    str | None, typer.Option("--source", help="Name of the source, for topics without a wildcard.")
]
PayloadOption = Annotated[
    str,
    typer.Option(
        "--payload",
        metavar="[image|json]",
        help="image: the message is the encoded image. json: a document with the image in base64 as `image`, and "
        "optionally timestamp, number and attributes.",
    ),
]
BrokerHostOption = Annotated[str | None, typer.Option("--host", help="Broker. Default: MQTT_HOST.")]
BrokerPortOption = Annotated[int | None, typer.Option("--port", help="Port of the broker. Default: MQTT_PORT.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Stop after this many announced frames.")]


def mqtt(  # noqa: PLR0913, PLR0917 - one parameter for each option
    mqtt_topics: FilterOption = None,
    source: SourceOption = None,
    payload: PayloadOption = "image",
    host: BrokerHostOption = None,
    port: BrokerPortOption = None,
    min_brightness: MinBrightnessOption = None,
    min_sharpness: MinSharpnessOption = None,
    min_change: MinChangeOption = None,
    gate_hours: HoursOption = None,
    store_gated: StoreGatedOption = True,
    mask: MaskOption = None,
    resize: ResizeOption = None,
    limit: LimitOption = None,
    topic: TopicOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store the images of MQTT messages and announce each as a frame, until it is stopped.

    A message is acknowledged when its image is stored and announced. Until then the broker keeps it, also over a
    restart of this command or of the broker. A message that is delivered again is the same frame. User, password,
    TLS and the name of the session are settings (IMGPIPELINE_MQTT_…).
    """
    from imgpipeline.sources.mqtt.messages import DEFAULT_TOPIC, Subscription, parse_payload  # noqa: PLC0415 - slow

    given = {"mqtt_host": host, "mqtt_port": port, "kafka_topic": topic}
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})
    subscription = Subscription(tuple(mqtt_topics or [DEFAULT_TOPIC]), source, parse_payload(payload))
    prepared = preparation_of(settings, min_brightness=min_brightness, min_sharpness=min_sharpness,
                              min_change=min_change, hours=gate_hours, store_gated=store_gated, masks=mask,
                              resize=resize)  # fmt: skip
    status, found = _run(settings, subscription, prepared, limit)
    if as_json:
        show_json([{"source": name, "received": of.received, "announced": of.announced, "failed": of.failed,
                    "gated": of.gated, "dropped": of.dropped} for name, of in found])  # fmt: skip
    else:
        _report(found, settings.kafka_topic)
    raise typer.Exit(status)


def _run(
    settings: "Settings", subscription: "Subscription", prepared: "Preparation", limit: int | None
) -> "tuple[int, list[tuple[str, Totals]]]":
    from imgpipeline.sources.mqtt.ingest import ingest_mqtt  # noqa: PLC0415 - loads kafka-python
    from imgpipeline.sources.options import PublishOptions  # noqa: PLC0415 - as above

    with stopped_by_signals() as stopping:

        def enough(totals: "list[tuple[str, Totals]]") -> None:
            if limit is not None and sum(of.announced for _, of in totals) >= limit:
                stopping.event.set()

        where = f"{settings.mqtt_host}:{settings.mqtt_port}"
        note(f"Subscribed to {', '.join(subscription.topics)} at {where}. Ctrl-C stops.")
        options = PublishOptions(preparation=prepared)
        found = ingest_mqtt(settings, subscription, stop=stopping.event, options=options, progress=enough)
    return stopping.exit_status, found


def _report(found: "list[tuple[str, Totals]]", topic: str) -> None:
    for name, of in found:
        others = {"gated": of.gated, "dropped": sum(of.dropped.values()), "failed": of.failed}
        said = "".join(f", {count:,} {what}" for what, count in others.items() if count)
        note(f"{name}: {counted(of.announced, 'frame')} announced on the topic {topic}{said}.")
    if not found:
        note("No message arrived.")
