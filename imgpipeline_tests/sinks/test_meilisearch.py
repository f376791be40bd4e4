"""What the sink for Meilisearch adds: the documents of the older pipeline, search, tasks that fail, batches."""

from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace

import pyarrow as pa
import pytest

from imgpipeline.errors import ConfigurationError, PermanentError, TransientError
from imgpipeline.settings import load_settings
from imgpipeline.sinks.configuration import load_sinks, open_sink
from imgpipeline.sinks.exporting import Exporter
from imgpipeline.sinks.protocol import Searchable
from imgpipeline_tests.servers.meilisearch_stand_in import Index, MeilisearchStandIn
from imgpipeline_tests.sinks.days import day_number, frames_of, put_day
from imgpipeline_tests.sinks.targets import config_of

KEY = "admin-canary"
DAY = day_number(0)


@pytest.fixture
def server():
    with MeilisearchStandIn(KEY) as server:
        yield server


@pytest.fixture
def sink(server):
    sink, _ = open_sink(config_of(address(server)))
    return sink


def address(server, key: str = KEY) -> str:
    return f"meilisearch+http://:{key}@127.0.0.1:{server.port}"


def images(*names: str, **columns: list[str]) -> pa.Table:
    rows = len(names)
    return pa.table({"day": [DAY] * rows, "id": list(names), "image_key": [f"{name}.png" for name in names], **columns})


def write(sink, rows: pa.Table, version: str = "v1") -> int:
    return sink.replace_day(sink.tables[0], DAY, rows.to_reader(), version)


def documents(server) -> list[dict]:
    return list(server.indexes["image_metadata"].documents.values())


def test_a_document_has_the_fields_of_the_older_pipeline(server, store):
    (frame,) = frames_of(DAY, 1)
    derived = {"gray": "derived/gray/7.png", "640x360": "derived/640x360/7.png"}
    path = "s3://captchas/gate/7.png"
    put_day(store, DAY, [replace(frame, source_image_path=path, size_bytes=1536, attributes={"derived": derived})])
    list(Exporter(store, load_settings(), config_of(address(server))).export())
    (document,) = documents(server)
    assert {name: value for name, value in document.items() if name not in {"id", "version"}} == {
        "day": str(DAY),
        "image_key": "gate/7.png",
        "bucket_name": "captchas",
        "file_name": "7.png",
        "timestamp": f"{DAY} 12:00:00.000000",
        "size": 1536,
        "size_kb": 1.5,
        "opencv_processing": "grayscale, 640x360",
    }


def test_images_of_the_stores_own_bucket_and_of_imports_have_null_for_what_is_not_known(server, store):
    own, imported = frames_of(DAY, 2)
    put_day(store, DAY, [own, replace(imported, source_image_path="s3://old/1.png", size_bytes=None)])
    list(Exporter(store, load_settings(), config_of(address(server))).export())
    found = {document["image_key"]: document for document in documents(server)}
    unknown = ("bucket_name", "opencv_processing")
    assert [found[own.source_image_path][name] for name in unknown] == [None, None]
    assert (found["1.png"]["size"], found["1.png"]["size_kb"]) == (None, None)


def test_an_image_that_several_frames_show_is_one_document_with_the_newest_time(server, store):
    frames = [replace(frame, source_image_path="gate/now.jpg") for frame in frames_of(DAY, 3)]
    put_day(store, DAY, frames)
    list(Exporter(store, load_settings(), config_of(address(server))).export())
    (document,) = documents(server)
    assert document["timestamp"] == f"{max(frame.timestamp for frame in frames):%Y-%m-%d %H:%M:%S.%f}"


def test_the_variables_of_the_older_pipeline_are_enough(server, monkeypatch):
    monkeypatch.setenv("MEILI_HTTP_ADDR", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("MEILI_MASTER_KEY", KEY)
    (config,) = load_sinks(load_settings(sinks="meilisearch"))
    assert KEY not in config.url
    sink, _ = open_sink(config)
    assert sink.check() == "Meilisearch 1.41.0"


def test_without_a_protocol_and_without_a_key_the_sink_says_what_is_missing(server):
    sink, _ = open_sink(config_of(f"meilisearch://127.0.0.1:{server.port}"))
    with pytest.raises(ConfigurationError, match="Next: use the master key or an admin key"):
        sink.check()


def test_search_finds_documents_by_words(sink):
    assert isinstance(sink, Searchable)
    assert (sink.search("gate", 5), sink.count()) == ([], 0)
    write(sink, images("gate-1", "gate-2", "gate-3", "yard-1"))
    assert [hit["image_key"] for hit in sink.search("gate", 2)] == ["gate-1.png", "gate-2.png"]
    assert [hit["image_key"] for hit in sink.search("yar", 5)] == ["yard-1.png"]
    assert sink.count() == 4


def test_search_does_not_look_at_ids_and_versions(sink):
    write(sink, images("ab12", "cd34"), version="gate")
    assert sink.search("gate", 5) == []


def test_more_days_are_read_than_the_server_lists_by_default(server, sink):
    (table,) = sink.tables
    write(sink, images("a"))
    (record,) = server.indexes["imgpipeline_exports"].documents.values()
    days = [day_number(number) for number in range(101)]
    server.indexes["imgpipeline_exports"].add([{**record, "id": str(day)} for day in days], "id")
    server.indexes["image_metadata"].add([{"id": str(day), "day": str(day)} for day in days[1:]], "id")
    assert sink.row_counts(table) == dict.fromkeys(days, 1)
    assert sorted(sink.stored_days(table)) == days


def test_the_reason_of_a_task_that_failed_is_reported(server, sink):
    server.indexes["image_metadata"] = Index("uuid")
    with pytest.raises(PermanentError, match="already has a primary key: `uuid`"):
        write(sink, images("a"))
    assert [stored.version for stored in sink.stored_days(sink.tables[0]).values()] == [""]


def test_a_task_that_does_not_end_is_an_error_that_may_go_away(server, sink, monkeypatch):
    hours = iter(range(1000))
    clock = SimpleNamespace(now=lambda: datetime(2026, 1, 1) + timedelta(hours=next(hours)))  # noqa: DTZ001 - as theirs
    monkeypatch.setattr("meilisearch.task.datetime", clock)
    with server.tasks_wait(), pytest.raises(TransientError, match="timeout"):
        write(sink, images("a"))


def test_settings_that_others_have_made_are_kept(server, sink):
    write(sink, images("a"))
    index = server.indexes["image_metadata"]
    index.settings["filterableAttributes"].append("bucket_name")
    index.settings["searchableAttributes"] = ["file_name"]
    before = dict(index.settings)
    write(sink, images("b"), "v2")
    assert index.settings == before
    index.settings["filterableAttributes"] = [{"attributePatterns": ["size*"]}]
    write(sink, images("c"), "v3")
    assert index.settings["filterableAttributes"] == [{"attributePatterns": ["size*"]}, "day", "version"]


def test_requests_have_a_limited_size(server, sink):
    names = [f"image-{number}" for number in range(60)]
    assert write(sink, images(*names, text=["x" * 500_000] * 60)) == 60
    assert len(server.request_bytes) > 4
    assert max(server.request_bytes) < 9_000_000
    assert sink.count() == 60


def test_a_request_that_the_server_finds_too_large_is_refused_with_its_reason(server, sink):
    server.request_limit_bytes = 1000
    with pytest.raises(PermanentError, match="reached the size limit"):
        write(sink, images("a", text=["x" * 2000]))


def test_a_version_is_not_recorded_over_rows_that_another_export_wrote_meanwhile(server, sink):
    def other_export(task) -> None:
        if task["type"] == "documentDeletion":
            server.indexes["image_metadata"].add([{"id": "b", "day": str(DAY), "version": "v2"}], "id")

    write(sink, images("a"))
    server.after_task = other_export
    with pytest.raises(TransientError, match="Another export changed"):
        write(sink, images("a"))
    assert [stored.version for stored in sink.stored_days(sink.tables[0]).values()] == [""]


def test_a_day_of_an_index_that_was_deleted_can_be_removed(server, sink):
    write(sink, images("a"))
    del server.indexes["image_metadata"]
    sink.remove_day(sink.tables[0], DAY)
    assert sink.stored_days(sink.tables[0]) == {}
