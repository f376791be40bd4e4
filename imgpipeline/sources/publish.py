"""Runs one source: captures its frames and publishes them until it ends or is stopped."""

import threading
from collections.abc import Callable

from imgpipeline.settings import Settings
from imgpipeline.sources.accounts import Totals
from imgpipeline.sources.board import SourceWatch
from imgpipeline.sources.images import ImageStore
from imgpipeline.sources.options import PublishOptions, default_options
from imgpipeline.sources.protocol import Source
from imgpipeline.sources.publisher import Publisher


def publish(
    settings: Settings,
    source: Source,
    *,
    stop: threading.Event | None = None,
    options: PublishOptions | None = None,
    store: ImageStore | None = None,
    progress: Callable[[Totals], None] | None = None,
    watch: SourceWatch | None = None,
) -> Totals:
    """Publishes a source until it ends or `stop` is set.

    Args:
        settings: Store and topic.
        source: What to capture.
        stop: Ends the session gracefully; None: only the source's end does.
        options: How to publish; None: the defaults of its kind.
        store: Where the images go; None: the store of the settings.
        progress: Called with the accounting after each captured item, and at the end.
        watch: Told what happens to the source.

    Returns:
        The accounting of the session.

    Raises:
        ImgpipelineError: Source, store or Kafka cannot be used; the error says why.
        KeyboardInterrupt: Ctrl-C; what was captured before is published first.
    """
    stop, chosen = stop or threading.Event(), options or default_options(source.kind)
    publisher = Publisher(settings, source.name, source.kind, options=chosen, store=store, watch=watch)
    reason = "end of the source"
    drain_s: float | None = None
    try:
        for captured in source.capture(stop):
            publisher.offer(captured)
            if progress:
                progress(publisher.totals())
        if stop.is_set():
            reason, drain_s = "stopped", chosen.drain_s
    except BaseException as error:
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"failed: {type(error).__name__}"
        drain_s = chosen.drain_s
        raise
    finally:
        try:
            totals = publisher.close(reason, drain_s=drain_s)
        finally:
            if progress:
                progress(publisher.totals())
    return totals
