"""OpenSearch and Elasticsearch: a document for each detection, and one for each label and hour, in the classic indices.

    opensearch+https://user@host:9200?ca_certs=/etc/ssl/own-ca.pem

A classic name is the alias of one index per month. A rebuilt day writes its documents, deletes those of its other
versions, and stores its version last, in the index `imgpipeline-exports`. Readers never miss a row that stays.

Tests run both clients on a real OpenSearch, Elasticsearch's through a proxy that follows the rules of Elasticsearch 9.
"""

import contextlib
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import elasticsearch.helpers
import opensearchpy.helpers
import pyarrow as pa

from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError, ImgpipelineError, PermanentError, TransientError
from imgpipeline.sinks.protocol import SinkConfig, SinkTable, StoredDay
from imgpipeline.sinks.search_documents import HOUR_COUNTS, IMAGE_DETECTIONS, VERSION, documents, fields_of, place_of

_TIMEOUT_S, _PAGE = 60, 20_000
_BULK = {"max_chunk_bytes": 5_000_000, "max_retries": 4, "initial_backoff": 0.5, "raise_on_error": False}
_WHOLE = {"ignore_unavailable": True, "allow_partial_search_results": False}
_EXPORTS = "imgpipeline-exports"
_EXPORT_FIELDS = {"table": "keyword", "day": "date", "version": "keyword", "rows": "long", "exported_at": "date"}


class OpenSearchSink:
    """Indices of an OpenSearch cluster."""

    tables = (IMAGE_DETECTIONS, HOUR_COUNTS)
    _failures: tuple[type[Exception], ...] = (opensearchpy.OpenSearchException,)
    _bulk: Any = staticmethod(opensearchpy.helpers.streaming_bulk)

    def __init__(self, config: SinkConfig) -> None:
        parts = urlsplit(config.url)
        self._name = f"the sink {config.name} ({config.url})"
        options: dict[str, Any] = dict(parse_qsl(parts.query))
        is_valid = options.keys() <= {"ca_certs"} and Path(options.get("ca_certs", "/")).exists()
        if parts.scheme not in {"http", "https"} or not parts.hostname or not is_valid:
            example = f"{config.kind}+https://user:password@host:9200, with ?ca_certs=FILE for an authority of your own"
            raise ConfigurationError(f"The URL of {self._name} is invalid.", next_step=f"write {example}")
        port = "" if parts.port else ":443" if parts.scheme == "https" else ":9200"
        url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{port}{parts.path}"
        password = config.password.get_secret_value() if config.password else ""
        login = (unquote(parts.username), password) if parts.username else None
        self._client = self._make_client(url, login, options)

    def check(self) -> str:
        """See `Sink`."""
        with self._errors():
            version = self._client.info()["version"]
            return f"{version.get('distribution', 'elasticsearch')} {version['number']}, {self._health()}"

    def stored_days(self, table: SinkTable) -> Mapping[date, StoredDay]:
        """See `Sink`."""
        days = {}
        with self._errors():
            indices = self._client.indices.get(index=f"{table.name}-*")
        for hit in self._search(_EXPORTS, query={"term": {"table": table.name}}, size=10_000)["hits"]["hits"]:
            row = hit["_source"]
            stored = StoredDay(row["version"], row["rows"], datetime.fromisoformat(row["exported_at"]))
            day = date.fromisoformat(row["day"])
            if place_of(table, day)[0] in indices:  # somebody may have deleted it
                days[day] = stored
        return days

    def replace_day(self, table: SinkTable, day: date, rows: pa.RecordBatchReader, version: str) -> int:
        """See `Sink`."""
        index, of_day, of_version = place_of(table, day)
        with self._errors():
            self._prepare(_EXPORTS, _EXPORT_FIELDS)
            if not self._client.indices.exists(index=index):
                month = f'"{day:%Y-%m}||/M"'
                self._delete(_EXPORTS, f'table:"{table.name}" AND day:[{month} TO {month}]')  # of an index that is gone
            self._prepare(index, fields_of(rows.schema), table.name)
            self._delete(_EXPORTS, of_version)  # so that a killed export is repeated
            count = self._write(index, documents(table, day, rows, version))
            self._client.indices.refresh(index=index)
            self._delete(index, f'{of_day} AND NOT {VERSION}:"{version}"')
            if self._client.count(index=index, q=of_day)["count"] != count:
                self._delete(_EXPORTS, of_version)
                raise TransientError(f"Another export of {table.name} of {day} to {self._name} runs at the same time.")
            values = (table.name, str(day), version, count, utc_now().isoformat())
            document = dict(zip(_EXPORT_FIELDS, values, strict=True))
            self._client.index(index=_EXPORTS, id=f"{table.name} {day}", body=document, refresh=True)
        return count

    def remove_day(self, table: SinkTable, day: date) -> None:
        """See `Sink`."""
        index, of_day, of_version = place_of(table, day)
        with self._errors():
            self._delete(_EXPORTS, of_version)
            self._delete(index, of_day)

    def row_counts(self, table: SinkTable) -> Mapping[date, int]:
        """See `Sink`."""
        days = {"date_histogram": {"field": "day", "calendar_interval": "day", "min_doc_count": 1}}
        found = self._search(table.name, size=0, aggs={"days": days}).get("aggregations", {"days": {"buckets": []}})
        return {date.fromisoformat(each["key_as_string"][:10]): each["doc_count"] for each in found["days"]["buckets"]}

    def search(self, text: str, size: int) -> list[dict[str, Any]]:
        """See `Searchable`."""
        newest = [{"processing_timestamp": {"order": "desc", "unmapped_type": "date"}}]
        found = self._search(IMAGE_DETECTIONS.name, query={"match": {"label": text}}, size=size, sort=newest)
        return [hit["_source"] for hit in found["hits"]["hits"]]

    def count(self) -> int:
        """See `Searchable`."""
        return int(self._search(IMAGE_DETECTIONS.name, size=0, track_total_hits=True)["hits"]["total"]["value"])

    def close(self) -> None:
        """See `Sink`."""
        self._client.close()

    def _make_client(self, url: str, login: tuple[str, str] | None, options: Mapping[str, Any]) -> Any:
        return opensearchpy.OpenSearch(url, http_auth=login, timeout=_TIMEOUT_S, max_retries=1, **options)

    def _health(self, **index: str) -> str:
        health = str(self._client.cluster.health(**index)["status"])
        if health == "red":
            raise TransientError(f"{self._name} is red: shards are missing.", next_step="ask it for _cat/shards?v")
        return health

    def _search(self, index: str, **body: Any) -> Any:
        with self._errors():
            return self._client.search(index=index, body=body, **_WHOLE)

    def _prepare(self, index: str, fields: Mapping[str, str], alias: str | None = None) -> None:
        """Creates an index, or fields that are missing."""
        mappings = {"properties": {name: {"type": kind} for name, kind in fields.items()}}
        if self._client.indices.exists(index=index):
            self._client.indices.put_mapping(index=index, body=mappings)
        else:
            settings = {"number_of_shards": 1, "number_of_replicas": 0}
            body = {"settings": settings, "mappings": mappings, "aliases": {alias: {}} if alias else {}}
            self._client.indices.create(index=index, body=body)
        self._health(index=index)

    def _write(self, index: str, documents: Iterator[dict[str, Any]]) -> int:
        count = 0
        for is_written, item in self._bulk(self._client, documents, index=index, **_BULK):
            if not is_written:
                (answer,) = item.values()
                raise self._refusal(answer["status"], answer)
            count += 1
        return count

    def _delete(self, index: str, query: str) -> None:
        options = {"conflicts": "proceed", "refresh": True, "ignore_unavailable": True, "body": {"max_docs": _PAGE}}
        while self._client.delete_by_query(index=index, q=query, **options)["total"] == _PAGE:
            pass  # one request for all could take longer than the time-out

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            raise self._refusal(getattr(error, "status_code", None), getattr(error, "info", None), error) from None

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
            advice = "if an index has other fields, delete it; its days are then exported again"
            return PermanentError(f"{self._name} refuses the request: {why}", next_step=advice)
        return TransientError(f"{self._name} does not answer: {why}")


class ElasticsearchSink(OpenSearchSink):
    """Indices of an Elasticsearch cluster, version 9 or later."""

    _failures = (elasticsearch.ApiError, elasticsearch.TransportError)
    _bulk = staticmethod(elasticsearch.helpers.streaming_bulk)

    def _make_client(self, url: str, login: tuple[str, str] | None, options: Mapping[str, Any]) -> Any:
        return elasticsearch.Elasticsearch(url, basic_auth=login, request_timeout=_TIMEOUT_S, max_retries=1, **options)
