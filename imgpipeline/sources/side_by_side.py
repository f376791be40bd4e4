"""Publishes several sources at once, each in a thread of its own: one that fails does not touch the others."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from imgpipeline.errors import ImgpipelineError
from imgpipeline.settings import Settings
from imgpipeline.sources.accounts import Totals
from imgpipeline.sources.board import Board, SourceState
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.protocol import Source
from imgpipeline.sources.publish import publish
from imgpipeline.stream.batches import FencedError


@dataclass(frozen=True, slots=True)
class EndedSource:
    """How one source ended."""

    source: str
    """Its name."""
    totals: Totals | None
    """Its accounting; None if it failed."""
    error: ImgpipelineError | None
    """Why it failed."""


def publish_all(
    settings: Settings, sources: Sequence[Source], stop: threading.Event, board: Board, options: PublishOptions
) -> list[EndedSource]:
    """Publishes sources until all have ended, failed, or `stop` is set.

    Args:
        settings: Name store and topic.
        sources: What to publish; their names differ.
        stop: Ends all of them gracefully.
        board: Told what happens to each.
        options: How to publish.

    Returns:
        How each ended, in the order given.
    """
    ended: dict[str, EndedSource] = {}

    def run(source: Source) -> None:
        watch = board.watch(source.name, source.kind)
        try:
            totals = publish(settings, source, stop=stop, options=options, watch=watch)
        except ImgpipelineError as error:
            taken = isinstance(error, FencedError)
            watch.change(SourceState.TAKEN_OVER if taken else SourceState.ENDED, error.message)
            ended[source.name] = EndedSource(source.name, None, error)
        else:
            watch.change(SourceState.ENDED)
            ended[source.name] = EndedSource(source.name, totals, None)

    threads = [threading.Thread(target=run, args=(source,), name=f"source {source.name}") for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [ended[source.name] for source in sources if source.name in ended]
