"""`imgpipeline topics`: the topic of the announced frames."""

from typing import Annotated

import typer

from imgpipeline.cli.output import JsonOption, note, show_json
from imgpipeline.contracts.counts import counted
from imgpipeline.settings import load_settings

app = typer.Typer(help="The Kafka topic of the frames.")


@app.callback()
def _group() -> None:
    """The Kafka topic of the frames."""


@app.command("create")
def create(
    partitions: Annotated[int, typer.Option(min=1, max=10_000, help="Frames of one source share a partition.")] = 3,
    replication_factor: Annotated[
        int | None, typer.Option(min=1, max=32, help="Copies of each partition. Default: the broker's setting.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create the topic that IMGPIPELINE_KAFKA_TOPIC names. An existing topic is not changed."""
    from imgpipeline.stream.announce import create_topic  # noqa: PLC0415 - loads kafka-python
    from imgpipeline.stream.log import read_log  # noqa: PLC0415 - as above

    settings = load_settings()
    created = create_topic(settings, partitions=partitions, replication_factor=replication_factor)
    found = len(read_log(settings))
    if as_json:
        show_json({"topic": settings.kafka_topic, "created": created, "partitions": found})
        return
    how = "was created" if created else "already exists, unchanged,"
    there = counted(found, "partition")
    note(f"The topic {settings.kafka_topic} {how} with {there} at {settings.kafka_bootstrap_servers}.")
