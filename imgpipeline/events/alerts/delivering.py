"""Delivers alerts in a thread, so that a slow target does not delay the alerts that are still to be written."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from imgpipeline.contracts.times import Clock
from imgpipeline.errors import PermanentError, TransientError
from imgpipeline.events.alerts.delivery import MessagePace, deliver
from imgpipeline.events.alerts.targets import read_targets
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

_POLL_S = 2.0
_LOG = logging.getLogger(__name__)


@contextmanager
def delivering(store: ObjectStore, settings: Settings, clock: Clock) -> Iterator[None]:
    """Delivers alerts while the block runs, and once more when it ends. Without targets it does nothing.

    Failures are logged and tried again.

    Raises:
        ConfigurationError: A target is no URL that apprise knows.
    """
    if not read_targets(settings):
        yield
        return
    stop, pace = threading.Event(), MessagePace(settings.alert_messages_per_minute)

    def loop() -> None:
        is_last = False
        while not is_last:
            is_last = stop.wait(_POLL_S)
            try:
                done = deliver(store, settings, now=clock(), pace=pace)
                if done.failed:
                    _LOG.warning("%d alerts were not delivered; they are tried again.", done.failed)
            except (PermanentError, TransientError) as error:
                _LOG.warning("%s", error)

    thread = threading.Thread(target=loop, name="alert delivery")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
