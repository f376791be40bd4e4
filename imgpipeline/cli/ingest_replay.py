"""`imgpipeline ingest replay`: announces the stored images of a day again."""

from typing import Annotated

import typer

from imgpipeline.cli.announcing import announcing_settings
from imgpipeline.cli.finite import finite_progress
from imgpipeline.cli.output import JsonOption, note, show_json
from imgpipeline.contracts.text import counted
from imgpipeline.errors import UsageError
from imgpipeline.lake.query.days import parse_day
from imgpipeline.settings import load_settings


def replay(
    topic: Annotated[str, typer.Option("--topic", metavar="NAME", help="Where to announce.")],
    day: Annotated[str, typer.Option("--day", help="Day of the frames (UTC), such as 2026-01-09.")],
    source: Annotated[str | None, typer.Option("--source", help="Only this source.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Announce the stored images of a day again on a topic, each source in the order of its frames' times.

    Frames keep their source, time and number, so announcing them on a topic of the same site counts nothing twice.
    """
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore
    from imgpipeline.sources.bucket import OPTIONS  # noqa: PLC0415 - as above
    from imgpipeline.sources.publish import publish  # noqa: PLC0415 - loads kafka-python
    from imgpipeline.sources.stored_frames import find_stored_frames  # noqa: PLC0415 - loads obstore

    wanted = parse_day(day)
    settings = load_settings(**announcing_settings(topic, None))
    found, missing = find_stored_frames(open_store(settings), wanted, source)
    if not found:
        raise UsageError(f"The ledger has no stored images of {wanted}{f' and {source}' if source else ''}.",
                         next_step="`imgpipeline frames list` shows what there is")  # fmt: skip
    total, announced = sum(len(frames.frames) for frames in found), 0
    with finite_progress("Announcing", topic) as progress:
        for frames in found:
            before = announced
            totals = publish(
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
            note(f"Left out: {counted(missing, 'frame')} without a stored image.")
