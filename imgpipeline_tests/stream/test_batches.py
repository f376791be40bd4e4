"""Only the sender that opened a fence last can send, whenever the older one notices it."""

import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from imgpipeline.settings import Settings
from imgpipeline.stream.batches import BatchSender, FencedError, Record

FENCE = "gate"
NOTICED_S = 2.0
"""By then the producer's thread has heard the broker's answer to a first record."""


class Slow(list[Record]):
    """Records that come one by one, slowly."""

    def __iter__(self) -> Iterator[Record]:
        """Yield each record a while after the one before."""
        for number, record in enumerate(super().__iter__()):
            if number:
                time.sleep(NOTICED_S)
            yield record


@pytest.mark.slow
@pytest.mark.parametrize("records", [list, Slow], ids=["when it commits", "between two records"])
def test_the_older_sender_is_told_that_another_has_taken_over(
    settings: Settings, topic: str, records: type[list[Record]]
):
    batch = records(Record(topic, b"gate", b"%d" % number) for number in range(3))
    with (
        closing(BatchSender(settings, fence=FENCE, topics=[topic])) as older,
        closing(BatchSender(settings, fence=FENCE, topics=[topic])) as newer,
    ):
        older.send(batch)
        newer.send(batch)
        with pytest.raises(FencedError, match=f"Another process has taken over {FENCE}"):
            older.send(batch)
        newer.send(batch)
