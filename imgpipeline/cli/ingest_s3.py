"""`imgpipeline ingest s3`: announces images that are already in a bucket."""

from dataclasses import asdict, replace
from typing import Annotated

import typer

from imgpipeline.cli.announcing import MessageFormatOption, TopicOption, announcing_settings
from imgpipeline.cli.finite import finite_progress
from imgpipeline.cli.output import JsonOption, note, show_json
from imgpipeline.contracts.messages import MessageFormat
from imgpipeline.contracts.text import counted
from imgpipeline.settings import load_settings

_MOST_NAMED = 5


def s3(
    location: Annotated[str, typer.Argument(help="s3://bucket/prefix (whole parts of keys), or one object.")],
    source: Annotated[
        str | None, typer.Option("--source", help="Name of the camera. Default: the last folder, otherwise the bucket.")
    ] = None,
    suffix: Annotated[
        list[str] | None,
        typer.Option("--suffix", help="Only keys that end so, such as .png; case-sensitive. Repeatable."),
    ] = None,
    topic: TopicOption = None,
    message_format: MessageFormatOption = MessageFormat.NATIVE,
    as_json: JsonOption = False,
) -> None:
    """Announce the images of a bucket where they are, without copying them.

    The time of a frame is when its object was written. Folder markers, empty objects and other files are skipped. The
    location has to be the store's own or one of IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS. Exits with status 1 if an object
    could not be announced. It is safe to repeat the command: the same frames count once.
    """
    from imgpipeline.sources.bucket import OPTIONS, BucketSource  # noqa: PLC0415 - loads obstore
    from imgpipeline.sources.publish import publish  # noqa: PLC0415 - loads kafka-python

    settings = load_settings(**announcing_settings(topic, None))
    bucket = BucketSource(settings, location, source, suffixes=tuple(suffix or ()))
    options = replace(OPTIONS, message_format=message_format)
    with finite_progress("Announcing", settings.kafka_topic, unit="images") as progress:
        totals = publish(settings, bucket, options=options, progress=lambda now: progress(now.announced, 0))
    if as_json:
        failures = [asdict(failure) for failure in bucket.failures]
        show_json({"source": bucket.name, "topic": settings.kafka_topic, "announced": totals.announced,
                   "skipped": bucket.skipped, "failures": failures})  # fmt: skip
    else:
        announced = counted(totals.announced, "frame")
        note(f"{announced} of {bucket.name} announced on the topic {settings.kafka_topic}, images left where they are.")
        if bucket.skipped:
            note(f"Skipped: {counted(bucket.skipped, 'object')} (folder markers, empty objects, other files).")
        for failure in bucket.failures[:_MOST_NAMED]:
            note(f"Not announced: {failure.path}: {failure.error}")
        if len(bucket.failures) > _MOST_NAMED:
            note(f"  and {len(bucket.failures) - _MOST_NAMED:,} more; --json names all")
    if bucket.failures:
        raise typer.Exit(1)
