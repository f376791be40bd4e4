"""Publishes what was found in each frame, by following the ledger.

Each batch of the ledger is one Kafka transaction with the checkpoint after it. A frame is published when the ledger has
its outcome for the first time; what a repair writes about an offset that is published already is not published.
"""

from collections.abc import Callable, Iterator

from imgpipeline.contracts.outcomes import Frame
from imgpipeline.ledger import Batch as LedgerBatch
from imgpipeline.ledger import follow
from imgpipeline.objectstore import ObjectStore
from imgpipeline.publish.checkpoints import Published
from imgpipeline.publish.forms import detections_record
from imgpipeline.publish.frames_seen import FramesSeen
from imgpipeline.publish.options import Wanted
from imgpipeline.publish.transactions import Batch, Publisher
from imgpipeline.settings import Settings
from imgpipeline.stream.batches import Record

_BATCH_SEGMENTS = 64


def publish_detections(
    store: ObjectStore,
    settings: Settings,
    wanted: Wanted,
    *,
    goes_on: Callable[[], bool] = lambda: False,
    progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Publishes what the ledger has after the last checkpoint, and returns the number of records.

    Args:
        store: The object store.
        settings: Name the broker.
        wanted: What is published where.
        goes_on: Called when everything is published; whether to look for more.
        progress: Called with the number of records of each committed transaction.

    Raises:
        FencedError: Another process publishes the same there now.
        ConfigurationError: The topic is missing, or a setting keeps the broker from taking records.
        LostCheckpointError: The ledger is another one than that of the checkpoint.
        LedgerError: A segment cannot be read; everything before it is published.
        TransientError: Broker or store do not answer. A new call continues after the last committed transaction.
    """
    publisher = Publisher(wanted.topic, wanted.name_of("detections"), Published.from_json, Published)
    seen = FramesSeen(store)

    def batches(published: Published) -> Iterator[Batch]:
        for read in follow(store, published.checkpoint, batch_segments=_BATCH_SEGMENTS):
            records = _records_of(read, published, seen, wanted)
            published.checkpoint = read.checkpoint
            yield Batch(records, published.to_json())

    return publisher.run(settings, batches, goes_on=goes_on, progress=progress)


def _records_of(read: LedgerBatch, published: Published, seen: FramesSeen, wanted: Wanted) -> list[Record]:
    records = []
    for chain, outcome in read.outcomes():
        if published.has(chain, outcome):
            continue
        if isinstance(outcome, Frame) and seen.add(outcome, published.ends):
            record = detections_record(wanted.topic, outcome, wanted.form, wanted.kind)
            records += [record] if record else []
        published.add(chain, outcome)
    return records
