"""A steady stream of announcements, good and bad ones, whose right outcomes are known."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import DeadLetterCode
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.stream.connection import open_producer

PICTURES = 20
_PATIENCE_MS = 180_000
"""How long a record may take to arrive: longer than any fault, so that none is given up."""
_BAD = (
    DeadLetterCode.INVALID_MESSAGE,
    DeadLetterCode.OBJECT_NOT_FOUND,
    DeadLetterCode.DECODE_FAILED,
    DeadLetterCode.PATH_NOT_ALLOWED,
)
BAD_EVERY = 25
"""Every so many-th record is a bad one, of each kind in turn."""


@dataclass
class Producer:
    """Announces frames of one source at a steady rate, in a thread."""

    settings: Settings
    """Where to."""
    source: str
    """The source, which is also the Kafka key."""
    rate_hz: float
    """Records a second."""
    sent: Counter[str] = field(default_factory=Counter)
    """Records by what must become of them: `frame`, or the code of a dead letter."""
    failure: BaseException | None = None
    """Why it ended early."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to announce."""
        self._thread = threading.Thread(target=self._produce, name=f"producer-{self.source}")
        self._thread.start()

    def stop(self) -> None:
        """Ends, and waits until the broker has all records."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE_MS / 1000 + 30)
        if self.failure is not None:
            raise RuntimeError(f"producer {self.source} failed") from self.failure

    def _produce(self) -> None:
        # Idempotent: a record that is sent again after a lost answer is not in the log twice, so counts can be exact.
        options = {"enable_idempotence": True, "acks": "all", "delivery_timeout_ms": _PATIENCE_MS,
                   "max_block_ms": _PATIENCE_MS}  # fmt: skip
        try:
            with open_producer(self.settings, **options) as producer:
                number, began_s = 0, time.monotonic()
                while not self._stop.is_set():
                    kind, value = self._record(number)
                    producer.send(self.settings.kafka_topic, value=value, key=self.source.encode())
                    self.sent[kind] += 1
                    number += 1
                    self._stop.wait(max(0.0, began_s + number / self.rate_hz - time.monotonic()))
                producer.flush()
        except BaseException as error:  # noqa: BLE001 - raised by `stop` in the thread that asks
            self.failure = error

    def _record(self, number: int) -> tuple[str, bytes]:
        bad = _BAD[number // BAD_EVERY % len(_BAD)] if number % BAD_EVERY == BAD_EVERY - 1 else None
        if bad is DeadLetterCode.INVALID_MESSAGE:
            return bad.value, b"no message"
        path = {
            None: picture_key(number % PICTURES),
            DeadLetterCode.OBJECT_NOT_FOUND: "images/soak/none.jpg",
            DeadLetterCode.DECODE_FAILED: "images/soak/cut.jpg",
            DeadLetterCode.PATH_NOT_ALLOWED: "s3://elsewhere/x.jpg",
        }[bad]
        message = FrameMessage(self.source, path, utc_now(), frame_number=number)
        return bad.value if bad else "frame", message.to_value()


def picture_key(number: int) -> str:
    """Returns where a picture of the soak is stored."""
    return f"images/soak/{number:02d}.jpg"


def store_pictures(settings: Settings) -> None:
    """Stores what the producers announce."""
    store, scene = open_store(settings), Scene(1, frames=PICTURES)
    for number in range(PICTURES):
        store.put(picture_key(number), scene.jpeg(number)[0])
    store.put("images/soak/cut.jpg", scene.jpeg(0)[0][:2000])
