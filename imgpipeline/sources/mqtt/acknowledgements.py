"""Acknowledges each message when its frame is safe, in the order in which messages were received.

MQTT 5.0, 4.6: a client sends its acknowledgements in the order of the messages. So a message whose frame is not safe
yet holds back those after it. Acknowledgements never outlive their connection: after a reconnect the broker may give
the number of an old message to a new one.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock


@dataclass(slots=True, eq=False)
class _Message:
    number: int
    safe: bool = False


@dataclass(slots=True, eq=False)
class Delivery:
    """A frame on its way, and the messages that brought it: more than one if it was redelivered meanwhile."""

    identity: bytes
    """Hash of topic and content."""
    messages: list[_Message] = field(default_factory=list)
    """As received, including those of closed connections."""


class Acknowledgements:
    """The messages that are not acknowledged yet. Thread-safe."""

    def __init__(self, send: Callable[[int], object]) -> None:
        """Prepares.

        Args:
            send: Acknowledges the message with this number on the current connection.
        """
        self._send = send
        self._lock = Lock()
        self._in_order: deque[_Message] = deque()
        self._unsafe: dict[bytes, Delivery] = {}
        self._count = 0

    @property
    def waiting(self) -> int:
        """Deliveries that are not safe yet."""
        return self._count

    def start_connection(self) -> None:
        """Forgets the numbers of the connection before; its frames stay on their way."""
        with self._lock:
            self._in_order.clear()

    def receive(self, number: int, identity: bytes, *, redelivered: bool) -> Delivery | None:
        """Takes a message.

        Args:
            number: By which it is acknowledged.
            identity: Hash of its topic and content.
            redelivered: Whether the broker says that it may have sent it before.

        Returns:
            What is to be given to `settle`; None if its frame is on its way already.
        """
        message = _Message(number)
        with self._lock:
            self._in_order.append(message)
            known = self._unsafe.get(identity)
            if known is not None and redelivered:
                known.messages.append(message)
                return None
            delivery = Delivery(identity, [message])
            self._unsafe[identity] = delivery
            self._count += 1
            return delivery

    def settle(self, delivery: Delivery) -> None:
        """Acknowledges the messages of a frame that is safe, as soon as it is their turn."""
        with self._lock:
            self._count -= 1
            if self._unsafe.get(delivery.identity) is delivery:
                del self._unsafe[delivery.identity]
            for message in delivery.messages:
                message.safe = True
            while self._in_order and self._in_order[0].safe:
                self._send(self._in_order.popleft().number)
