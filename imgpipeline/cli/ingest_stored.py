"""`imgpipeline ingest s3` and `replay`: announce images that are already stored."""

from dataclasses import asdict, replace
from typing import Annotated

import typer

from imgpipeline.cli.ingest_options import MessageFormatOption, TopicOption, topic_settings
from imgpipeline.cli.options import JsonOption, OneDayOption, SourceOption
from imgpipeline.cli.output import note, note_some, show_json
from imgpipeline.cli.stopping import finite_progress
from imgpipeline.contracts.messages import MessageFormat
from imgpipeline.contracts.text import counted
from imgpipeline.errors import UsageError
from imgpipeline.lake.query.days import parse_day
from imgpipeline.settings import load_settings

_MOST_NAMED = 5


def s3(
    location: Annotated[str, typer.Argument(help="s3://bucket/prefix (whole parts of keys), or one object.")],
    source: Annotated[
        str | None, typer.Option("--source", help="Name of the camera. Default: the last folder, otherwise the bucket.")
    ] = None,
    suffix: Annotated[
        list[str] | None,
        typer.Option("--suffix", help="Only keys with this ending, such as .png; case-sensitive. Repeatable."),
    ] = None,
    topic: TopicOption = None,
    message_format: MessageFormatOption = MessageFormat.NATIVE,
    as_json: JsonOption = False,
) -> None:
    """Announce the images of a bucket without copying them.

    The time of a frame is the time at which its object was written. Folder markers, empty objects and other files are
    skipped. The location must be in the store, or one of IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS. Exits with status 1 if an
    object could not be announced. It is safe to repeat the command: the same frames count once.
    """
    from imgpipeline.sources.ingest import ingest_source  # noqa: PLC0415 - loads kafka-python
    from imgpipeline.sources.stored_images import OPTIONS, BucketSource  # noqa: PLC0415 - loads obstore

    settings = load_settings(**topic_settings(topic))
    bucket = BucketSource(settings, location, source, suffixes=tuple(suffix or ()))
    options = replace(OPTIONS, message_format=message_format)
    with finite_progress("Announcing", settings.kafka_topic, unit="images") as progress:
        totals = ingest_source(settings, bucket, options=options, progress=lambda now: progress(now.announced, 0))
    if as_json:
        failures = [asdict(failure) for failure in bucket.failures]
        show_json({"source": bucket.name, "topic": settings.kafka_topic, "announced": totals.announced,
                   "skipped": bucket.skipped, "failures": failures})  # fmt: skip
    else:
        announced = counted(totals.announced, "frame")
        note(f"{announced} of {bucket.name} announced on the topic {settings.kafka_topic}; no image was copied.")
        if bucket.skipped:
            note(f"Skipped: {counted(bucket.skipped, 'object')} (folder markers, empty objects, other files).")
        note_some([f"Not announced: {failure.path}: {failure.error}" for failure in bucket.failures], _MOST_NAMED)
    if bucket.failures:
        raise typer.Exit(1)


def replay(
    topic: Annotated[str, typer.Option("--topic", metavar="NAME", help="Topic to announce on.")],
    day: OneDayOption,
    source: SourceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Announce the stored images of a day again on a topic, each source in the order of its frames' times.

    Frames keep their source, time and number, so announcing them on a topic of the same site counts nothing twice.
    """
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore
    from imgpipeline.sources.ingest import ingest_source  # noqa: PLC0415 - loads kafka-python
    from imgpipeline.sources.stored_images import OPTIONS, find_stored_frames  # noqa: PLC0415 - loads obstore

    wanted = parse_day(day)
    settings = load_settings(**topic_settings(topic))
    found, missing = find_stored_frames(open_store(settings), wanted, source)
    if not found:
        raise UsageError(f"The ledger has no stored images of {wanted}{f' and {source}' if source else ''}.",
                         next_step="`imgpipeline frames list` lists the frames")  # fmt: skip
    total, announced = sum(len(frames.frames) for frames in found), 0
    with finite_progress("Announcing", topic) as progress:
        for frames in found:
            before = announced
            totals = ingest_source(
                settings,
                frames,
                options=OPTIONS,
                progress=lambda now, before=before: progress(before + now.announced, total),  # type: ignore[misc]  # mypy infers no defaults of lambdas
            )
            announced += totals.announced
    if as_json:
        show_json({"topic": topic, "day": wanted, "sources": [frames.name for frames in found],
                   "announced": announced, "without_image": missing})  # fmt: skip
    else:
        note(f"{counted(announced, 'frame')} of {counted(len(found), 'source')} announced on the topic {topic}.")
        if missing:
            note(f"Skipped: {counted(missing, 'frame')} without a stored image.")
