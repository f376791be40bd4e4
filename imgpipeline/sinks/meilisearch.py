"""Meilisearch: the index `image_metadata` has one document per image and day, for search by name.

Meilisearch has no transactions: while a day is replaced, each of its images shows the old or the new document. The
index `imgpipeline_exports` has the version of each day.

    meilisearch+http://:key@host:7700
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
from meilisearch import Client
from meilisearch.errors import MeilisearchApiError, MeilisearchError
from meilisearch.models.task import TaskInfo
from pydantic import TypeAdapter

from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError, PermanentError, TransientError
from imgpipeline.lake.schema.tables import FRAMES
from imgpipeline.sinks.protocol import SinkConfig, SinkTable, StoredDay

_REQUEST_LIMIT_S, _TASK_LIMIT_S = 60, 600
_BATCH_BYTES = 8_000_000
"""Meilisearch takes requests of up to 100 MB by default, its cloud of 20 MB."""
_MOST_DAYS = 20_000
_SETTINGS = {
    "searchableAttributes": ["file_name", "image_key", "bucket_name", "opencv_processing", "timestamp"],
    "faceting": {"maxValuesPerFacet": _MOST_DAYS},
}
_CHANGING = StoredDay("", 0, datetime(1970, 1, 1, tzinfo=UTC))
"""The record of a day while its documents change. It equals no version, so a killed export is repeated at once."""
_RECORD = TypeAdapter(StoredDay)
_IMAGES = SinkTable(
    "image_metadata",
    (FRAMES.name,),
    r"""
    SELECT day, sha256(day || source_image_path) AS id,
           regexp_replace(source_image_path, '^s3://[^/]+/', '') AS image_key,
           strftime("timestamp" AT TIME ZONE 'UTC', '%Y-%m-%d %H:%M:%S.%f') AS "timestamp", size_bytes AS size,
           nullif(regexp_extract(source_image_path, '^s3://([^/]+)/', 1), '') AS bucket_name,
           replace(array_to_string(json_keys(attributes, '$.derived'), ', '), 'gray', 'grayscale') AS opencv_processing,
           regexp_extract(source_image_path, '[^/]*$') AS file_name, size_bytes / 1024 AS size_kb
    FROM frames WHERE source_image_path <> ''
    QUALIFY row_number() OVER (
        PARTITION BY source_image_path ORDER BY frames."timestamp" DESC, source_kafka_offset DESC
    ) = 1
    """,
    ("id",),
)


class MeilisearchSink:
    """The index `image_metadata` of a Meilisearch server."""

    tables = (_IMAGES,)

    def __init__(self, config: SinkConfig) -> None:
        scheme, _, address = config.url.rstrip("/").partition("://")
        url = f"{'https' if scheme == 'https' else 'http'}://{address.rpartition('@')[2]}"
        key = config.password.get_secret_value() if config.password else None
        self._name = f"the sink {config.name} ({url})"
        self._client = Client(url, key, timeout=_REQUEST_LIMIT_S)
        self._images, self._records = self._client.index(_IMAGES.name), self._client.index("imgpipeline_exports")

    def check(self) -> str:
        """See `Sink`."""
        with self._errors():
            return f"Meilisearch {self._client.get_version()['pkgVersion']}"

    def stored_days(self, table: SinkTable) -> Mapping[date, StoredDay]:  # noqa: ARG002 - there is one table
        """See `Sink`."""
        records: list[Any] = []
        with self._errors():
            self._images.get_settings()  # ends the block if somebody deleted the index
            records = self._records.get_documents({"limit": _MOST_DAYS}).results
        found = {record.id: {name: value for name, value in record if name != "id"} for record in records}
        return {date.fromisoformat(day): _RECORD.validate_python(record) for day, record in found.items()}

    def replace_day(self, table: SinkTable, day: date, rows: pa.RecordBatchReader, version: str) -> int:  # noqa: ARG002 - as above
        """See `Sink`. TransientError also says that another export changed the day at the same time."""
        with self._errors():
            self._begin(day)
            tasks, count = [], 0
            for lines in _batches(rows, version):
                tasks.append(self._images.add_documents_ndjson(b"\n".join(lines), "id"))
                count += len(lines)
            self._wait(*tasks)
            self._wait(self._images.delete_documents(filter=f'day = "{day}" AND version != "{version}"'))
            self._record(day, StoredDay(version, count, utc_now()))
            # The export that writes last also looks last, so no version stays recorded over documents of another one.
            if self._counts("version", f'day = "{day}"') == ({version: count} if count else {}):
                return count
            self._record(day, _CHANGING)
        raise TransientError(f"Another export changed {day} in {self._name}.", next_step="export it again")

    def remove_day(self, table: SinkTable, day: date) -> None:  # noqa: ARG002 - as above
        """See `Sink`."""
        with self._errors():
            self._begin(day)
            self._wait(self._images.delete_documents(filter=f'day = "{day}"'))
            self._wait(self._records.delete_document(str(day)))

    def row_counts(self, table: SinkTable) -> Mapping[date, int]:  # noqa: ARG002 - as above
        """See `Sink`."""
        counts: dict[str, int] = {}
        with self._errors():
            counts = self._counts("day")
        return {date.fromisoformat(day): count for day, count in counts.items()}

    def search(self, text: str, size: int) -> list[dict[str, Any]]:
        """See `Searchable`."""
        found: dict[str, Any] = {}
        with self._errors():
            found = self._images.search(text, {"limit": size})
        return list(found.get("hits", []))

    def count(self) -> int:
        """See `Searchable`."""
        return sum(self.row_counts(_IMAGES).values())

    def close(self) -> None:
        """See `Sink`. No connection stays open."""

    def _begin(self, day: date) -> None:
        """Makes the settings of an index that lacks them, and records that a day changes."""
        filterable: list[Any] = []
        with self._errors():
            filterable = self._images.get_settings()["filterableAttributes"]
        missing = [name for name in ("day", "version") if name not in filterable]
        if missing:
            self._record(day, _CHANGING)
            self._wait(self._records.delete_all_documents())  # of an index that is gone
            filters = {"filterableAttributes": [*filterable, *missing]}
            self._wait(self._images.update_settings({**_SETTINGS, **filters}))
        self._record(day, _CHANGING)

    def _record(self, day: date, stored: StoredDay) -> None:
        document = {"id": str(day), **_RECORD.dump_python(stored, mode="json")}
        self._wait(self._records.add_documents([document], "id"))

    def _counts(self, attribute: str, documents: str | None = None) -> dict[str, int]:
        """Counts documents, all or those of a filter, by an attribute."""
        found = self._images.search("", {"facets": [attribute], "limit": 0, "filter": documents})
        return dict(found["facetDistribution"].get(attribute, {}))

    def _wait(self, *tasks: TaskInfo) -> None:
        for task in tasks:
            ended = self._client.wait_for_task(task.task_uid, timeout_in_ms=_TASK_LIMIT_S * 1000)
            if ended.status != "succeeded":
                reason = (ended.error or {}).get("message", "it gives no reason")
                raise PermanentError(
                    f"A task of {self._name} {ended.status}: {reason}",
                    next_step="if its index has documents of another program, delete it; it is then exported again",
                )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Maps errors, and ends the block where an index does not exist."""
        try:
            yield
        except MeilisearchApiError as error:
            if error.code == "index_not_found":
                return
            if error.status_code in {401, 403}:
                raise ConfigurationError(
                    f"Meilisearch refuses the key of {self._name}: {error.message}",
                    next_step="use the master key or an admin key as the password of its URL",
                ) from None
            if error.status_code >= 500 or error.status_code in {408, 429}:
                raise TransientError(f"{self._name} does not answer: {error.message}") from None
            raise PermanentError(f"Meilisearch refuses a request of {self._name}: {error.message}") from None
        except (MeilisearchError, ValueError) as error:  # ValueError: the answer is no JSON
            raise TransientError(f"{self._name} does not answer: {error}") from None


def _batches(rows: pa.RecordBatchReader, version: str) -> Iterator[list[bytes]]:
    """Yields documents as lines of JSON, in batches of limited size."""
    lines, size_bytes = [], 0
    for row in (row for batch in rows for row in batch.to_pylist()):
        lines.append(json.dumps({**row, "version": version}, default=str).encode())
        size_bytes += len(lines[-1])
        if size_bytes > _BATCH_BYTES:
            yield lines
            lines, size_bytes = [], 0
    if lines:
        yield lines
