"""The private names of kafka-python that this project depends on; no other module uses any.

Kafka accepts any bytes as the name of a header. kafka-python decodes the name and raises inside `poll`, every time, so
one such record would block its partition forever. `mend_consumer` lets a consumer read such a name with U+FFFD in place
of the invalid bytes. kafka-python's own code still reads records with valid names, as fast as before.

A consumer keeps the fetched records of a paused partition. kafka-python returns them after `resume` only if it holds no
records of another partition, and counts records that it has returned completely, so they might never come. With
`mend_consumer`, a consumer does not hold records that it has returned.
"""

from typing import Any, Final

from kafka import KafkaConsumer
from kafka.protocol.consumer.offsets import IsolationLevel
from kafka.record.default_records import DefaultRecordBatch

from imgpipeline.errors import PermanentError

TESTED_VERSIONS: Final = ("3.0.12",)
"""Releases of kafka-python that the tests of this module have passed with."""
READ_COMMITTED: Final = IsolationLevel.READ_COMMITTED
"""Requests the last stable offset: the end of the finished transactions."""


class _TolerantName(bytes):
    """A part of a batch that can always be decoded."""

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)


class _TolerantBuffer(bytes):
    """A batch whose parts can always be decoded."""

    def __getitem__(self, place: Any) -> Any:
        part = super().__getitem__(place)
        return _TolerantName(part) if isinstance(part, bytes) else part


class _TolerantBatch(DefaultRecordBatch):  # type: ignore[misc]  # kafka-python has no types
    """A batch that reads a record again if the name of a header is not UTF-8."""

    __slots__ = ()  # the layout of its base class, so that a batch can become one
    _buffer: Any

    def _read_msg(self, **options: Any) -> Any:
        try:
            return super()._read_msg(**options)
        except UnicodeDecodeError:
            # The position moves only after a whole record, so this reads the same record again. The copy is also used
            # for the rest of the batch.
            self._buffer = _TolerantBuffer(self._buffer)
            return super()._read_msg(**options)


class _TolerantRecords:
    """The batches of one fetch."""

    def __init__(self, records: Any) -> None:
        self._records = records

    def next_batch(self) -> Any:
        batch = self._records.next_batch()
        if type(batch) is DefaultRecordBatch:
            batch.__class__ = _TolerantBatch
        return batch


def mend_consumer(consumer: KafkaConsumer) -> None:
    """Lets a consumer read any header name, and return what it has fetched of a paused partition; changes no other one.

    Raises:
        PermanentError: The internals of the installed kafka-python are different.
    """
    fetcher: Any = getattr(consumer, "_fetcher", None)
    unpacked_by = getattr(fetcher, "PartitionRecords", None)
    if fetcher is None or not hasattr(unpacked_by, "_unpack_records"):
        raise PermanentError(
            f"The internals of kafka-python differ from the tested release ({', '.join(TESTED_VERSIONS)}).",
            next_step=f"pip install kafka-python=={TESTED_VERSIONS[-1]}",
        )

    class TolerantPartitionRecords(unpacked_by):  # type: ignore[misc, valid-type]  # a class without types
        def _unpack_records(self, partition: Any, records: Any, *deserializers: Any) -> Any:
            return super()._unpack_records(partition, _TolerantRecords(records), *deserializers)

        def drain(self) -> None:
            super().drain()
            if fetcher._next_partition_records is self:  # noqa: SLF001 - no public name
                fetcher._next_partition_records = None  # noqa: SLF001 - as above

    fetcher.PartitionRecords = TolerantPartitionRecords
