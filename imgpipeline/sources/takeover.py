"""Runs a source again after another process took it over: once the sessions of that process have ended.

A session reports its end in Kafka. One that was killed cannot, so a long silence counts as its end too.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from threading import Event
from time import monotonic

from kafka import TopicPartition

from imgpipeline.contracts.messages import SESSION, FrameMessage
from imgpipeline.contracts.notices import Notice, NoticeKind, parse_record
from imgpipeline.contracts.times import format_time, utc_now
from imgpipeline.errors import BadInputError, ImgpipelineError
from imgpipeline.settings import Settings
from imgpipeline.sources.board import SourceState, SourceWatch
from imgpipeline.stream.connection import open_consumer
from imgpipeline.stream.fetch import to_record
from imgpipeline.stream.send import FencedError

LOG = logging.getLogger(__name__)
_POLL_S = 0.5
_UNSEEN_S = 60.0
"""How long to wait for a first sign of the other process. An MQTT session without messages gives none."""
_SILENT_S = 900.0
"""A live session without frames sends an account every ten minutes."""

Message = FrameMessage | Notice


def run_again(
    settings: Settings,
    run: Callable[[], object],
    watch: SourceWatch,
    belongs: Callable[[Message], bool],
    stop: Event,
    *,
    silent_s: float = _SILENT_S,
) -> None:
    """Runs a source until it ends. While another process publishes it, waits for the end of that process's sessions.

    Args:
        settings: Kafka and the topics.
        run: Publishes the source; raises what it raises, except `FencedError`.
        watch: Shows which session has taken the source over.
        belongs: Whether a record from Kafka is one of this source.
        stop: Ends the waiting.
        silent_s: Sessions that have sent nothing for this long count as ended.
    """
    unseen_s = _UNSEEN_S / 2
    while True:
        started_s = monotonic()
        try:
            run()
        except FencedError as error:
            # It doubles, so two processes without frames do not take the source from each other endlessly.
            unseen_s = 2 * unseen_s if monotonic() - started_s < silent_s else _UNSEEN_S
            LOG.warning("%s: %s", watch.source, error)
            why = _wait_for_end(settings, error.ends, watch, belongs, stop, unseen_s=unseen_s, silent_s=silent_s)
            if why is None:
                return
            LOG.warning("%s: %s, so the source is taken back", watch.source, why)
            watch.change(SourceState.STARTING)
        else:
            return


def _wait_for_end(
    settings: Settings,
    ends: Mapping[tuple[str, int], int],
    watch: SourceWatch,
    belongs: Callable[[Message], bool],
    stop: Event,
    *,
    unseen_s: float,
    silent_s: float,
) -> str | None:
    """Returns why the other process counts as ended; None if `stop` was set first."""
    since, heard_s, sessions = format_time(utc_now())[:19] + "Z", monotonic(), set[str]()

    def show(by: str) -> None:
        watch.change(SourceState.TAKEN_OVER, f"taken over by {by} since {since}")
        LOG.warning("%s: taken over by %s since %s", watch.source, by, since)

    show("another process")
    for message in _follow(settings, ends, stop):
        session = _session_of(message) if message else None
        if message and session and (belongs(message) or session in sessions):
            heard_s = monotonic()
            if isinstance(message, Notice) and message.kind is NoticeKind.ENDED:
                sessions.discard(session)
                if not sessions:
                    return f"session {session} has ended"
            elif session not in sessions:
                sessions.add(session)
                reason = message.reason if isinstance(message, Notice) else None
                show(f"session {session}" + (f" ({reason})" if reason else ""))
        limit_s = silent_s if sessions else unseen_s
        if monotonic() - heard_s > limit_s:
            return f"the other process has sent nothing for {limit_s:g} s"
    return None


def _session_of(message: Message) -> str | None:
    return message.session if isinstance(message, Notice) else str(message.attributes.get(SESSION) or "") or None


def _follow(settings: Settings, ends: Mapping[tuple[str, int], int], stop: Event) -> Iterator[Message | None]:
    """Yields the records from the given offsets on, or if none is given the new ones; None while there is nothing."""
    topics = {settings.kafka_topic, settings.notices_topic}
    while not stop.is_set():
        try:
            with open_consumer(settings, auto_offset_reset="latest") as consumer:
                known = [(topic, number) for topic in topics for number in consumer.partitions_for_topic(topic) or ()]
                consumer.assign([TopicPartition(*at) for at in ends or known])
                for at, end in ends.items():
                    consumer.seek(TopicPartition(*at), end)
                while not stop.is_set():
                    for batch in consumer.poll(timeout_ms=round(1000 * _POLL_S)).values():
                        for record in batch:
                            with contextlib.suppress(BadInputError):
                                yield parse_record(to_record(record))
                    yield None
        except ImgpipelineError as error:  # Kafka is away, and with it the other process
            LOG.info("%s", error)
            yield None
            stop.wait(_POLL_S)
