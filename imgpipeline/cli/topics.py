"""`imgpipeline topics`: the topics of the announced frames."""

from typing import Annotated, Any

import typer

from imgpipeline.cli.output import JsonOption, note, show_json
from imgpipeline.cli.peek import peek
from imgpipeline.contracts.text import counted
from imgpipeline.settings import load_settings

app = typer.Typer(help="The Kafka topics of the frames.")
app.command("peek")(peek)


@app.callback()
def _group() -> None:
    """The Kafka topics of the frames."""


@app.command("create")
def create(
    partitions: Annotated[int, typer.Option(min=1, max=10_000, help="Frames of one source share a partition.")] = 3,
    replication_factor: Annotated[
        int | None, typer.Option(min=1, max=32, help="Copies of each partition. Default: the broker's setting.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create the topics that IMGPIPELINE_KAFKA_TOPIC names. An existing topic is not changed."""
    from imgpipeline.stream.announce import create_topic  # noqa: PLC0415 - loads kafka-python
    from imgpipeline.stream.log import read_log  # noqa: PLC0415 - as above

    settings = load_settings()
    done: list[dict[str, Any]] = []
    for topic in settings.kafka_topics:
        own = settings.model_copy(update={"kafka_topic": topic})
        created = create_topic(own, partitions=partitions, replication_factor=replication_factor)
        done.append({"topic": topic, "created": created, "partitions": len(read_log(own))})
    if as_json:
        show_json(done[0] if len(done) == 1 else {"topics": done})
        return
    for one in done:
        how = "was created" if one["created"] else "already exists, unchanged,"
        there = counted(one["partitions"], "partition")
        note(f"The topic {one['topic']} {how} with {there} at {settings.kafka_bootstrap_servers}.")
