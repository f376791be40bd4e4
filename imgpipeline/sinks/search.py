"""OpenSearch and Elasticsearch: a document for each detection, and one for each label and hour, in the classic indices.

    opensearch+https://user@host:9200?ca_certs=/etc/ssl/own-ca.pem

A classic name is the alias of one index per month. A rebuilt day writes its documents, whose ids are hashes of day and
key, deletes the day's documents of other versions, and stores the version last. Meanwhile no row that stays is missing.

Tests run both clients on a real OpenSearch, Elasticsearch's through a proxy that follows the rules of Elasticsearch 9.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import elasticsearch.helpers
import opensearchpy.helpers
import pyarrow as pa

from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError, ImgpipelineError, PermanentError, TransientError
from imgpipeline.sinks.protocol import SinkConfig, SinkTable, StoredDay

_TIMEOUT_S = 30
_ROWS = 1000
_DELETED_AT_ONCE = 50_000
"""So that each request ends before its time-out."""
_BULK = {"max_chunk_bytes": 5_000_000, "max_retries": 4, "initial_backoff": 0.5, "raise_on_error": False}
_EXPORTS = "imgpipeline-exports"
_EXPORT_FIELDS = {"table": "keyword", "day": "date", "version": "keyword", "rows": "long", "exported_at": "date"}
_DETECTIONS = SinkTable(
    "image-detections-v1",
    ("detections", "frames"),
    r"""
    SELECT day, frame_id, detection_number, source, "timestamp", f.processing_timestamp, label, class_id, confidence,
           source_image_path AS image_path, regexp_replace(source_image_path, '^\w+://[^/]+/', '') AS s3_key,
           CASE WHEN x IS NOT NULL THEN [trunc(x), trunc(y), trunc(width), trunc(height)]::INTEGER[] END AS box,
           image_width, image_height, model_used, source_kafka_partition, source_kafka_offset
    FROM detections LEFT JOIN (SELECT day, frame_id, processing_timestamp FROM frames) f USING (day, frame_id)
    """,
    ("frame_id", "detection_number"),
)
_HOURS = SinkTable(
    "hadoop-object-counts",
    ("label_counts",),
    """
    SELECT day, label, hour AS time_bucket, sum(count)::INTEGER AS count, hour AS "@timestamp",
           format('summaries/label_counts/day={}/label_counts.parquet', day) AS s3_source_file
    FROM label_counts GROUP BY day, label, hour
    """,
    ("label", "time_bucket"),
)
_TYPES = {pa.string(): "keyword", pa.int64(): "long", pa.int32(): "integer", pa.float64(): "float"}


class OpenSearchSink:
    """Indices of an OpenSearch cluster."""

    tables = (_DETECTIONS, _HOURS)
    _failures: tuple[type[Exception], ...] = (opensearchpy.OpenSearchException, opensearchpy.ImproperlyConfigured)
    _bulk: Any = staticmethod(opensearchpy.helpers.streaming_bulk)

    def __init__(self, config: SinkConfig) -> None:
        self._config = config
        self._name = f"the sink {config.name} ({config.url})"
        self._open: Any = None

    def check(self) -> str:
        """See `Sink`."""
        with self._client() as client:
            version, health = client.info()["version"], client.cluster.health()
        if health["status"] == "red":
            raise TransientError(f"{self._name} is red: it has lost shards.", next_step="see GET _cat/shards?v there")
        return f"{version.get('distribution', 'elasticsearch')} {version['number']}, {health['status']}"

    def stored_days(self, table: SinkTable) -> Mapping[date, StoredDay]:
        """See `Sink`."""
        found = self._search(_EXPORTS, query={"term": {"table": table.name}}, size=10_000)
        rows = [each["_source"] for each in found["hits"]["hits"]]
        times = [datetime.fromisoformat(row["exported_at"]) for row in rows]
        days = [StoredDay(row["version"], row["rows"], time) for row, time in zip(rows, times, strict=True)]
        return {date.fromisoformat(row["day"]): day for row, day in zip(rows, days, strict=True)}

    def replace_day(self, table: SinkTable, day: date, rows: pa.RecordBatchReader, version: str) -> int:
        """See `Sink`."""
        index, of_day = _index(table, day), f'day:"{day}"'
        fields = {each.name: _TYPES.get(getattr(each.type, "value_type", each.type), "date") for each in rows.schema}
        with self._client() as client:
            self._prepare(client, _EXPORTS, _EXPORT_FIELDS)
            self._prepare(client, index, {**fields, "export_version": "keyword"}, table.name)
            self._delete(client, _EXPORTS, f'table:"{table.name}" AND {of_day}')  # a killed export is repeated
            count = self._write(client, index, _documents(table, day, rows, version))
            client.indices.refresh(index=index)
            self._delete(client, index, f'{of_day} AND NOT export_version:"{version}"')
            if client.count(index=index, q=of_day)["count"] != count:
                self._delete(client, _EXPORTS, f'table:"{table.name}" AND {of_day}')
                raise TransientError(f"Another export of {table.name} of {day} to {self._name} runs at the same time.")
            values = (table.name, str(day), version, count, utc_now().isoformat())
            document = dict(zip(_EXPORT_FIELDS, values, strict=True))
            client.index(index=_EXPORTS, id=f"{table.name} {day}", body=document, refresh=True)
        return count

    def remove_day(self, table: SinkTable, day: date) -> None:
        """See `Sink`."""
        with self._client() as client:
            self._delete(client, _EXPORTS, f'table:"{table.name}" AND day:"{day}"')
            self._delete(client, _index(table, day), f'day:"{day}"')

    def row_counts(self, table: SinkTable) -> Mapping[date, int]:
        """See `Sink`."""
        days = {"date_histogram": {"field": "day", "calendar_interval": "day", "min_doc_count": 1}}
        found = self._search(table.name, size=0, aggs={"days": days}).get("aggregations", {"days": {"buckets": []}})
        buckets = found["days"]["buckets"]
        return {date.fromisoformat(each["key_as_string"][:10]): each["doc_count"] for each in buckets}

    def search(self, label: str, size: int) -> list[dict[str, Any]]:
        """See `Searchable`."""
        newest = [{"processing_timestamp": {"order": "desc", "unmapped_type": "date"}}]
        found = self._search(_DETECTIONS.name, query={"match": {"label": label}}, size=size, sort=newest)
        return [hit["_source"] for hit in found["hits"]["hits"]]

    def count(self) -> int:
        """See `Searchable`."""
        found = self._search(_DETECTIONS.name, size=0, track_total_hits=True)
        return int(found["hits"]["total"]["value"])

    def close(self) -> None:
        """See `Sink`."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _search(self, index: str, **body: Any) -> Any:
        with self._client() as client:
            return client.search(index=index, body=body, ignore_unavailable=True, allow_partial_search_results=False)

    def _prepare(self, client: Any, index: str, fields: Mapping[str, str], alias: str | None = None) -> None:
        """Creates an index, or fields that are missing."""
        mappings = {"properties": {name: {"type": kind} for name, kind in fields.items()}}
        if client.indices.exists(index=index):
            client.indices.put_mapping(index=index, body=mappings)
            return
        settings = {"number_of_shards": 1, "number_of_replicas": 0}
        body = {"settings": settings, "mappings": mappings, "aliases": {alias: {}} if alias else {}}
        client.indices.create(index=index, body=body)

    def _write(self, client: Any, index: str, documents: Iterator[dict[str, Any]]) -> int:
        count = 0
        for is_written, item in self._bulk(client, documents, index=index, **_BULK):
            if not is_written:
                (answer,) = item.values()
                raise self._refusal(answer["status"], answer)
            count += 1
        return count

    def _delete(self, client: Any, index: str, query: str) -> None:
        options = {"conflicts": "proceed", "refresh": True, "ignore_unavailable": True, "q": query}
        body = {"max_docs": _DELETED_AT_ONCE}
        while client.delete_by_query(index=index, body=body, **options)["deleted"] == _DELETED_AT_ONCE:
            pass

    @contextlib.contextmanager
    def _client(self) -> Iterator[Any]:
        try:
            if self._open is None:
                self._open = self._connect(*_address(self._config))
            yield self._open
        except self._failures as error:
            raise self._refusal(getattr(error, "status_code", None), getattr(error, "info", None), error) from None

    def _connect(self, url: str, login: tuple[str, str] | None, options: Mapping[str, str]) -> Any:
        return opensearchpy.OpenSearch(url, http_auth=login, timeout=_TIMEOUT_S, max_retries=1, **options)

    def _refusal(self, status: int | str | None, answer: Any, error: Exception | None = None) -> ImgpipelineError:
        """Returns the error for an answer of the server, or for none."""
        found = answer.get("error") if isinstance(answer, dict) else None
        cause = (found.get("root_cause") or [found])[0] if isinstance(found, dict) else {}
        kind, why = cause.get("type"), str(cause.get("reason") or found or error)[:300]
        if kind == "cluster_block_exception":
            advice = "free disk space on its nodes; if the block stays, remove index.blocks.* from the settings"
            return TransientError(f"{self._name} is read-only: {why}", next_step=advice)
        if kind == "invalid_alias_name_exception":
            advice = "reindex it under another name, delete it, and let its name be an alias: docs/sinks.md"
            return PermanentError(f"{self._name} has an index of an older pipeline: {why}", next_step=advice)
        if status in {401, 403} or "CERTIFICATE" in why:
            advice = "correct user, password and ?ca_certs=FILE; docs/sinks.md lists what the user has to be allowed"
            return ConfigurationError(f"{self._name} is refused: {why}", next_step=advice)
        if isinstance(status, int) and status < 500 and status not in {408, 409, 429}:
            advice = f"if an index has other fields, delete it and {_EXPORTS}; all days are then exported again"
            return PermanentError(f"{self._name} refuses the request: {why}", next_step=advice)
        return TransientError(f"{self._name} does not answer: {why}")


class ElasticsearchSink(OpenSearchSink):
    """Indices of an Elasticsearch cluster, version 9 or later."""

    _failures = (elasticsearch.ApiError, elasticsearch.TransportError)
    _bulk = staticmethod(elasticsearch.helpers.streaming_bulk)

    def _connect(self, url: str, login: tuple[str, str] | None, options: Mapping[str, str]) -> Any:
        return elasticsearch.Elasticsearch(url, basic_auth=login, request_timeout=_TIMEOUT_S, max_retries=1, **options)


def _address(config: SinkConfig) -> tuple[str, tuple[str, str] | None, dict[str, str]]:
    """Returns the URL without a login, the login, and the options."""
    parts = urlsplit(config.url)
    options = dict(parse_qsl(parts.query))
    if parts.scheme not in {"http", "https"} or not parts.hostname or options.keys() - {"ca_certs"}:
        example = f"{config.kind}+https://user:password@host:9200, with ?ca_certs=FILE for an authority of your own"
        raise ConfigurationError(f"The URL of the sink {config.name} is invalid.", next_step=f"write {example}")
    port = "" if parts.port else ":443" if parts.scheme == "https" else ":9200"
    url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{port}{parts.path}"
    password = config.password.get_secret_value() if config.password else ""
    return url, (unquote(parts.username), password) if parts.username else None, options


def _index(table: SinkTable, day: date) -> str:
    return f"{table.name}-{day:%Y-%m}"


def _documents(table: SinkTable, day: date, rows: pa.RecordBatchReader, version: str) -> Iterator[dict[str, Any]]:
    for batch in rows:
        for start in range(0, batch.num_rows, _ROWS):
            for row in batch.slice(start, _ROWS).to_pylist():
                key = json.dumps([str(day), *(row[name] for name in table.key)], default=str)
                document = {**row, "export_version": version}
                yield {"_id": sha256(key.encode()).hexdigest()[:32], "_source": document}
