"""Reads records whose headers have names that are not UTF-8.

Kafka accepts any bytes as the name of a header; kafka-python decodes them and raises inside `poll`, every time, so one
such record would block its partition forever. Such a name is read with U+FFFD in place of the invalid bytes. Records
with plain names are read by kafka-python's own code, as fast as before.
"""

from typing import Any

from kafka.record import memory_records
from kafka.record.default_records import DefaultRecordBatch


class _TolerantName(bytes):
    """A part of a batch that decodes whatever is in it."""

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)


class _TolerantBuffer(bytes):
    """A batch whose parts decode whatever is in them."""

    def __getitem__(self, place: Any) -> Any:
        part = super().__getitem__(place)
        return _TolerantName(part) if isinstance(part, bytes) else part


class _TolerantBatch(DefaultRecordBatch):  # type: ignore[misc]  # kafka-python has no types
    """A batch of records that reads a record once more, tolerantly, where the name of a header is not UTF-8."""

    _buffer: Any

    def _read_msg(self, **options: Any) -> Any:
        try:
            return super()._read_msg(**options)
        except UnicodeDecodeError:
            # Nothing was taken yet: the position moves only behind a record that was read whole. The rest of the batch
            # is read tolerantly too, since it is copied here.
            self._buffer = _TolerantBuffer(self._buffer)
            return super()._read_msg(**options)


def accept_any_header_name() -> None:
    """Makes all consumers of this process read such records; doing it again changes nothing."""
    memory_records.DefaultRecordBatch = _TolerantBatch
