"""A stand-in for Meilisearch, whose program cannot be had here: the routes that the sink and its tests use.

It follows the documented HTTP interface of Meilisearch 1 (https://www.meilisearch.com/docs/reference/api): writes are
tasks, which are done later and in order, and fail with the documented codes. Filters are `attribute = "value"` and
`attribute != "value"`, joined by AND. A search finds documents that have all words; the last word may be a beginning.
"""

import json
import queue
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from imgpipeline_tests.servers.ports import LOOPBACK, free_port

Document = dict[str, Any]
Filter = Callable[[Document], bool]
_CONDITION = re.compile(r"""(\w+)\s*(!?=)\s*(?:"([^"]*)"|'([^']*)'|([\w.-]+))""")
_ID = re.compile(r"[A-Za-z0-9_-]{1,511}")
_HITS_LIMIT = 1000
_STATUS = {
    "missing_authorization_header": 401, "invalid_api_key": 403, "index_not_found": 404, "document_not_found": 404,
    "task_not_found": 404, "not_found": 404, "payload_too_large": 413, "invalid_content_type": 415,
}  # fmt: skip
"""HTTP status by error code; all others have 400."""


class ApiError(Exception):
    """An error with its documented code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        kind = "auth" if "api_key" in code or "authorization" in code else "invalid_request"
        link = f"https://docs.meilisearch.com/errors#{code}"
        self.body = {"message": message, "code": code, "type": kind, "link": link}
        self.status = _STATUS.get(code, 400)


@dataclass
class Index:
    """Documents by id, and settings."""

    primary_key: str | None = None
    documents: dict[str, Document] = field(default_factory=dict)
    settings: dict[str, Any] = field(
        default_factory=lambda: {
            "filterableAttributes": [],
            "searchableAttributes": ["*"],
            "faceting": {"maxValuesPerFacet": 100, "sortFacetValuesBy": {"*": "alpha"}},
        }
    )

    def add(self, documents: list[Document], primary_key: str | None) -> None:
        """Add documents or replace those with the same id; all or none."""
        key = self._key_of(documents, primary_key)
        for document in documents:
            if key not in document:
                raise ApiError("missing_document_id", f"Document doesn't have a `{key}` attribute.")
            if isinstance(document[key], bool) or not _ID.fullmatch(str(document[key])):
                raise ApiError(
                    "invalid_document_id",
                    f"Document identifier `{json.dumps(document[key])}` is invalid. A document identifier can be of "
                    "type integer or string, only composed of alphanumeric characters (a-z A-Z 0-9), hyphens (-) and "
                    "underscores (_), and can not be more than 511 bytes.",
                )
        self.primary_key = key
        self.documents |= {str(document[key]): document for document in documents}

    def _key_of(self, documents: list[Document], asked: str | None) -> str:
        if asked and self.primary_key and asked != self.primary_key:
            raise ApiError(
                "index_primary_key_already_exists", f"Index already has a primary key: `{self.primary_key}`."
            )
        candidates = [name for name in documents[0] if name.lower().endswith("id")] if documents else []
        found = asked or self.primary_key or (candidates[0] if len(candidates) == 1 else None)
        if found is None:
            which = "multiple_candidates_found" if candidates else "no_candidate_found"
            raise ApiError(f"index_primary_key_{which}", "The primary key inference failed.")
        return found

    def condition(self, text: str, code: str) -> Filter:
        """Read a filter; its attributes have to be filterable."""
        parts = [_CONDITION.fullmatch(part.strip()) for part in text.split(" AND ")]
        tests = []
        for part in parts:
            if part is None:
                raise ApiError(code, f"Was expecting an operation `=`, `!=` … at `{text}`.")
            self._check_filterable(part[1], code, "Attribute")
            value = next(group for group in part.groups()[2:] if group is not None).lower()
            tests.append((part[1], part[2] == "=", value))
        return lambda document: all((str(document.get(name)).lower() == value) is same for name, same, value in tests)

    def facets(self, names: list[str], documents: list[Document]) -> dict[str, dict[str, int]]:
        """Count documents by the values of attributes."""
        limit = self.settings["faceting"]["maxValuesPerFacet"]
        for name in names:
            self._check_filterable(name, "invalid_search_facets", "Invalid facet distribution: Pattern")
        counted = {name: Counter(str(each[name]) for each in documents if name in each) for name in names}
        return {name: dict(sorted(counts.items())[:limit]) for name, counts in counted.items()}

    def matching(self, query: str) -> list[Document]:
        """Return the documents with all words of a query, of which the last may be a beginning."""
        *words, last = _words(query) or [""]
        names = self.settings["searchableAttributes"]
        found = []
        for document in self.documents.values():
            texts = [str(value) for name, value in document.items() if "*" in names or name in names]
            there = {word for text in texts for word in _words(text)}
            if there.issuperset(words) and (not last or any(word.startswith(last) for word in there)):
                found.append(document)
        return found

    def _check_filterable(self, name: str, code: str, what: str) -> None:
        there = self.settings["filterableAttributes"]
        if name not in there:
            known = f"Available filterable attribute patterns are: `{', '.join(map(str, there))}`."
            none = "This index does not have configured filterable attributes."
            raise ApiError(code, f"{what} `{name}` is not filterable. {known if there else none}")


class MeilisearchStandIn:
    """The server, in threads of the test; a context manager. Its indexes are kept until it ends."""

    def __init__(self, key: str, *, request_limit_bytes: int = 20_000_000) -> None:
        self.key, self.port, self.request_limit_bytes = key, free_port(), request_limit_bytes
        self.indexes: dict[str, Index] = {}
        self.tasks: list[dict[str, Any]] = []
        self.request_bytes: list[int] = []
        """Sizes of the requests that added documents."""
        self.after_task: Callable[[dict[str, Any]], None] = lambda _: None
        self._work: queue.Queue[tuple[dict[str, Any], Callable[[], None]] | None] = queue.Queue()
        self._may_work = threading.Event()
        self._may_work.set()

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer((LOOPBACK, self.port), handler)
        self._threads = [threading.Thread(target=run) for run in (self._server.serve_forever, self._do_tasks)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._may_work.set()
        self._work.put(None)
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(30)

    @contextmanager
    def tasks_wait(self) -> Iterator[None]:
        """Leave tasks enqueued for the time of the context."""
        self._may_work.clear()
        try:
            yield
        finally:
            self._may_work.set()

    def index(self, uid: str) -> Index:
        """Return an index that exists."""
        if uid not in self.indexes:
            raise ApiError("index_not_found", f"Index `{uid}` not found.")
        return self.indexes[uid]

    def enqueue(self, uid: str, kind: str, work: Callable[[], None]) -> dict[str, Any]:
        """Add a task, and return its summary."""
        task = {"uid": len(self.tasks), "indexUid": uid, "status": "enqueued", "type": kind, "error": None,
                "enqueuedAt": _now(), "startedAt": None, "finishedAt": None}  # fmt: skip
        self.tasks.append(task)
        self._work.put((task, work))
        summary = {name: task[name] for name in ("indexUid", "status", "type", "enqueuedAt")}
        return {"taskUid": task["uid"], **summary}

    def _do_tasks(self) -> None:
        while (each := self._work.get()) is not None:
            self._may_work.wait()
            task, work = each
            task |= {"status": "processing", "startedAt": _now()}
            try:
                work()
                ended = {"status": "succeeded"}
            except ApiError as error:
                message = f"Index `{task['indexUid']}`: {error.body['message']}"
                ended = {"status": "failed", "error": {**error.body, "message": message}}
            self.after_task(task)
            task |= {"finishedAt": _now(), **ended}


class _Handler(BaseHTTPRequestHandler):
    owner: MeilisearchStandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Write no log."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            answer = self._route(body)
            status = 202 if "taskUid" in answer else 200
        except ApiError as error:
            status, answer = error.status, error.body
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - the names that http.server calls

    def _route(self, body: bytes) -> dict[str, Any]:
        self._check_key()
        if len(body) > self.owner.request_limit_bytes:
            raise ApiError("payload_too_large", "The provided payload reached the size limit.")
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        match [self.command, *url.path.strip("/").split("/")]:
            case ["GET", "version"]:
                return {"commitSha": "unknown", "commitDate": "unknown", "pkgVersion": "1.41.0"}
            case ["GET", "tasks", uid]:
                if not uid.isdigit() or int(uid) >= len(self.owner.tasks):
                    raise ApiError("task_not_found", f"Task `{uid}` not found.")
                return self.owner.tasks[int(uid)]
            case ["GET", "indexes", uid, "settings"]:
                return self.owner.index(uid).settings
            case ["PATCH", "indexes", uid, "settings"]:
                return self._change(uid, "settingsUpdate", lambda index: _merge(index.settings, _read_json(body)))
            case ["POST", "indexes", uid, "search"]:
                return self._search(self.owner.index(uid), _read_json(body))
            case [_, "indexes", uid, "documents", *rest]:
                return self._documents(uid, rest, query, body)
        raise ApiError("not_found", f"There is no {self.command} {url.path} here.")

    def _check_key(self) -> None:
        given = self.headers.get("Authorization")
        if given is None:
            text = "The Authorization header is missing. It must use the bearer authorization method."
            raise ApiError("missing_authorization_header", text)
        if given != f"Bearer {self.owner.key}":
            raise ApiError("invalid_api_key", "The provided API key is invalid.")

    def _documents(self, uid: str, rest: list[str], query: dict[str, str], body: bytes) -> dict[str, Any]:
        match [self.command, *rest]:
            case ["POST"]:
                documents, key = self._read_documents(body), query.get("primaryKey")
                self.owner.request_bytes.append(len(body))
                return self._change(uid, "documentAdditionOrUpdate", lambda index: index.add(documents, key))
            case ["POST", "delete"]:
                text = _read_json(body)["filter"]
                if not all(_CONDITION.fullmatch(part.strip()) for part in text.split(" AND ")):
                    raise ApiError("invalid_document_filter", f"Was expecting an operation `=`, `!=` … at `{text}`.")
                return self.owner.enqueue(uid, "documentDeletion", lambda: self._delete_by(uid, text))
            case ["DELETE"]:
                return self.owner.enqueue(uid, "documentDeletion", lambda: self.owner.index(uid).documents.clear())  # noqa: PLW0108 - looked up when the task runs
            case ["DELETE", name]:
                return self.owner.enqueue(
                    uid, "documentDeletion", lambda: self.owner.index(uid).documents.pop(name, None)
                )
            case ["GET"]:
                return self._fetch(self.owner.index(uid), query)
            case ["POST", "fetch"]:
                return self._fetch(self.owner.index(uid), _read_json(body))
        raise ApiError("not_found", "There is no such route here.")

    def _change(self, uid: str, kind: str, work: Callable[[Index], None]) -> dict[str, Any]:
        """Enqueue a change that makes the index if it does not exist."""
        return self.owner.enqueue(uid, kind, lambda: work(self.owner.indexes.setdefault(uid, Index())))

    def _delete_by(self, uid: str, text: str) -> None:
        index = self.owner.index(uid)
        goes = index.condition(text, "invalid_document_filter")
        index.documents = {name: document for name, document in index.documents.items() if not goes(document)}

    def _fetch(self, index: Index, asked: dict[str, Any]) -> dict[str, Any]:
        offset, limit = int(asked.get("offset", 0)), int(asked.get("limit", 20))
        fits = index.condition(asked["filter"], "invalid_document_filter") if asked.get("filter") else lambda _: True
        found = [document for document in index.documents.values() if fits(document)]
        return {"results": found[offset : offset + limit], "offset": offset, "limit": limit, "total": len(found)}

    def _search(self, index: Index, asked: dict[str, Any]) -> dict[str, Any]:
        offset, limit = asked.get("offset", 0), asked.get("limit", 20)
        fits = index.condition(asked["filter"], "invalid_search_filter") if asked.get("filter") else lambda _: True
        found = [document for document in index.matching(asked.get("q") or "") if fits(document)]
        hits = found[:_HITS_LIMIT][offset : offset + limit]
        answer = {"hits": hits, "query": asked.get("q", ""), "processingTimeMs": 0, "limit": limit, "offset": offset,
                  "estimatedTotalHits": min(len(found), _HITS_LIMIT)}  # fmt: skip
        counted = {"facetDistribution": index.facets(asked["facets"], found)} if asked.get("facets") else {}
        return answer | counted

    def _read_documents(self, body: bytes) -> list[Document]:
        kind = (self.headers.get("Content-Type") or "").split(";")[0]
        if kind not in {"application/json", "application/x-ndjson"}:
            raise ApiError("invalid_content_type", f"The Content-Type `{kind}` is invalid.")
        found = [_read_json(line) for line in body.splitlines()] if "nd" in kind else _read_json(body)
        return found if isinstance(found, list) else [found]


def _read_json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise ApiError("malformed_payload", f"The `json` payload provided is malformed: `{error}`.") from None


def _merge(settings: dict[str, Any], changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        settings[name] = {**settings[name], **value} if isinstance(value, dict) else value


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
