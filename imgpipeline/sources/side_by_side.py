"""Publishes several sources at once, each in its own thread: a source that fails does not affect the others."""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from imgpipeline.errors import ImgpipelineError, PermanentError
from imgpipeline.settings import Settings
from imgpipeline.sources.accounts import Totals
from imgpipeline.sources.board import Board, SourceState
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.protocol import Source
from imgpipeline.sources.publish import publish
from imgpipeline.stream.batches import FencedError

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EndedSource:
    """How one source ended."""

    source: str
    """Its name."""
    totals: Totals | None
    """Its accounting, also if it failed; None if it never started."""
    error: ImgpipelineError | None
    """Why it failed; None if it did not."""


def publish_all(
    settings: Settings, sources: Sequence[tuple[Source, PublishOptions]], stop: threading.Event, board: Board
) -> list[EndedSource]:
    """Publishes sources until all have ended, failed, or `stop` is set. A source that fails is not started again.

    Args:
        settings: Store and topic.
        sources: What to publish, and how; their names differ.
        stop: Ends all of them gracefully.
        board: Told what happens to each.

    Returns:
        How each ended, in the order given.
    """

    def run(source: Source, options: PublishOptions) -> EndedSource:
        watch = board.watch(source.name, source.kind)
        error: ImgpipelineError | None = None
        last: dict[str, Totals] = {}
        try:
            progress = partial(last.__setitem__, "now")
            publish(settings, source, stop=stop, options=options, watch=watch, progress=progress)
        except ImgpipelineError as failed:
            error = failed
        except Exception as failed:  # a defect ends its own source alone, and is recorded
            LOG.exception("publishing %s", source.name)
            error = PermanentError(f"Publishing {source.name} failed: {type(failed).__name__}: {failed}.")
        is_taken = isinstance(error, FencedError)
        watch.change(SourceState.TAKEN_OVER if is_taken else SourceState.ENDED, error.message if error else None)
        return EndedSource(source.name, last.get("now"), error)

    with ThreadPoolExecutor(len(sources), thread_name_prefix="source") as pool:
        return list(pool.map(run, *zip(*sources, strict=True)))
