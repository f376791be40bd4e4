"""What OpenSearch and Elasticsearch add to the suite: the classic indices, what readers see, and refusals."""

import threading
from dataclasses import replace
from datetime import date

import pyarrow as pa
import pytest

from imgpipeline.errors import ConfigurationError, PermanentError, TransientError
from imgpipeline.lake.days.summary_inputs import open_tables
from imgpipeline.settings import load_settings
from imgpipeline.settings.loading import unknown_settings
from imgpipeline.sinks.configuration import load_sinks, open_sink
from imgpipeline.sinks.exporting import Exporter
from imgpipeline.sinks.protocol import Searchable
from imgpipeline_tests.lake.samples import detection
from imgpipeline_tests.servers.certificates import make_certificates
from imgpipeline_tests.servers.search_front import SearchFront
from imgpipeline_tests.sinks.days import day_number, frames_of, put_day, wanted_rows
from imgpipeline_tests.sinks.search_target import PASSWORD, USER, search_target
from imgpipeline_tests.sinks.targets import config_of

pytestmark = [pytest.mark.servers, pytest.mark.slow]
MONDAY = day_number(0)
NEXT_MONTH = day_number(31)
DETECTIONS, COUNTS = "image-detections-v1", "hadoop-object-counts"


@pytest.fixture(params=["opensearch", "elasticsearch"])
def target(request):
    return search_target(request, request.param)


def exporter(store, target) -> Exporter:
    return Exporter(store, load_settings(), target.config)


def export(store, target) -> None:
    made = exporter(store, target)
    list(made.export())
    made.sink.close()


def month_of(name: str, day: date) -> str:
    return f"{name}-{day:%Y-%m}"


def test_the_indices_have_the_classic_names_mappings_and_settings(store, target):
    put_day(store, MONDAY, frames_of(MONDAY, 2))
    export(store, target)
    classic = {
        DETECTIONS: {
            "processing_timestamp": "date", "image_path": "keyword", "label": "keyword", "model_used": "keyword",
            "s3_key": "keyword", "confidence": "float", "box": "integer", "class_id": "integer",
            "image_width": "integer", "image_height": "integer", "source_kafka_partition": "integer",
            "source_kafka_offset": "long",
        },
        COUNTS: {
            "label": "keyword", "time_bucket": "date", "count": "integer", "@timestamp": "date",
            "s3_source_file": "keyword",
        },
    }  # fmt: skip
    own = {
        DETECTIONS: {"frame_id": "keyword", "detection_number": "integer", "source": "keyword", "timestamp": "date"},
        COUNTS: {},
    }
    for name, fields in classic.items():
        (index,) = target.engine.ask("GET", f"/{name}").values()
        types = {field: each["type"] for field, each in index["mappings"]["properties"].items()}
        assert types == {**fields, **own[name], "day": "date", "export_version": "keyword"}
        assert index["settings"]["index"]["number_of_shards"] == "1"
        assert index["settings"]["index"]["number_of_replicas"] == "0"


def test_a_document_of_a_detection_has_the_classic_values(store, target):
    (frame,) = frames_of(MONDAY, 1, source_image_path="s3://2025-group19/images/frame_000007.jpg")
    box = replace(detection("car", 0.9), box_xywh=(10.9, 20.2, 30.0, 40.7))
    put_day(store, MONDAY, [replace(frame, detections=(box,))])
    export(store, target)
    (document,) = target.engine.documents(DETECTIONS, "*")
    assert document["image_path"] == "s3://2025-group19/images/frame_000007.jpg"
    assert document["s3_key"] == "images/frame_000007.jpg"
    assert document["box"] == [10, 20, 30, 40]
    assert (document["label"], document["source_kafka_offset"]) == ("car", frame.offset)
    assert document["processing_timestamp"] == frame.processing_timestamp.isoformat()


def test_counts_have_one_document_for_each_label_and_hour_of_all_sources(store, target):
    frames = [replace(frame, source=source) for frame, source in zip(frames_of(MONDAY, 6), "ab" * 3, strict=True)]
    put_day(store, MONDAY, frames)
    export(store, target)
    hour = frames[0].timestamp.replace(minute=0, second=0, microsecond=0).isoformat()
    documents = list(target.engine.documents(COUNTS, "*"))
    assert sorted((each["label"], each["time_bucket"], each["@timestamp"], each["count"]) for each in documents) == [
        ("car", hour, hour, 6),
        ("person", hour, hour, 6),
    ]
    (key,) = {each["s3_source_file"] for each in documents}
    assert store.get(key)


def test_months_have_indices_of_their_own_behind_one_name(store, target):
    for day in (MONDAY, NEXT_MONTH):
        put_day(store, day, frames_of(day, 3))
    export(store, target)
    for name in (DETECTIONS, COUNTS):
        found = target.engine.ask("GET", f"/_alias/{name}")
        assert found.keys() == {month_of(name, day) for day in (MONDAY, NEXT_MONTH)}


def test_readers_never_miss_a_row_while_a_day_is_rebuilt(store, target):
    put_day(store, MONDAY, frames_of(MONDAY, 30))
    export(store, target)
    seen, is_over = [], threading.Event()

    def poll() -> None:
        while not is_over.is_set():
            found = target.engine.ask("GET", f"/{DETECTIONS}/_search?size=0&track_total_hits=true")
            seen.append(found["hits"]["total"]["value"])

    reader = threading.Thread(target=poll)
    reader.start()
    for count in (40, 30, 50, 30):
        put_day(store, MONDAY, frames_of(MONDAY, count))
        export(store, target)
    is_over.set()
    reader.join()
    assert min(seen) == 60
    assert len(list(target.engine.documents(DETECTIONS, "*"))) == 60


def test_detections_are_searched_by_label_newest_first_and_counted(store, target):
    sink = exporter(store, target).sink
    assert isinstance(sink, Searchable)
    assert (sink.search("car", 5), sink.count()) == ([], 0)
    for day in (MONDAY, NEXT_MONTH):
        put_day(store, day, frames_of(day, 4, labels=["car", "a b"]))
    export(store, target)
    found = sink.search("car", 5)
    assert [each["label"] for each in found] == ["car"] * 5
    times = [each["processing_timestamp"] for each in found]
    assert times == sorted(times, reverse=True)
    assert len(sink.search("a b", 100)) == 8
    assert sink.search("a", 5) == []
    assert sink.count() == 16


def test_an_export_that_ends_after_one_day_of_a_deleted_index_leaves_no_version_of_the_others(store, target):
    for day in (MONDAY, day_number(1)):
        put_day(store, day, frames_of(day, 3))
    export(store, target)
    made = exporter(store, target)
    table = made.tables[0]
    target.drop(table)
    made.sink.replace_day(table, MONDAY, rows_of(store, table).to_reader(), "v")
    assert made.sink.stored_days(table).keys() == {MONDAY}


def test_a_busy_server_gets_the_refused_documents_again(store, target):
    put_day(store, MONDAY, frames_of(MONDAY, 5))
    target.front.busy = 2
    export(store, target)
    table = exporter(store, target).tables[0]
    assert target.rows(table, MONDAY) == wanted_rows(store, table, MONDAY)


def test_a_server_that_stays_busy_is_tried_later(store, target):
    put_day(store, MONDAY, frames_of(MONDAY, 1))
    target.front.busy = 100
    with pytest.raises(TransientError, match="rejected execution"):
        export(store, target)
    assert exporter(store, target).differences()


def test_a_classic_index_is_left_alone_until_it_makes_room_for_the_alias(store, target):
    old = {"label": "car", "processing_timestamp": "2025-04-10T18:00:00"}
    target.engine.ask("POST", f"/{DETECTIONS}/_doc?refresh=true", old)
    put_day(store, MONDAY, frames_of(MONDAY, 1))
    with pytest.raises(PermanentError, match=r"older pipeline.*reindex it.*docs/sinks\.md"):
        export(store, target)
    assert list(target.engine.documents(DETECTIONS, "*")) == [old]
    for method, path, document in (  # as docs/sinks.md has it
        ("POST", "/_reindex", {"source": {"index": DETECTIONS}, "dest": {"index": f"{DETECTIONS}-old"}}),
        ("DELETE", f"/{DETECTIONS}", None),
        ("PUT", f"/{DETECTIONS}-old/_alias/{DETECTIONS}", None),
    ):
        target.engine.ask(method, path, document)
    export(store, target)
    assert exporter(store, target).sink.count() == 3
    assert exporter(store, target).differences() == []


def test_a_full_disk_makes_the_export_wait_and_keeps_the_old_day(store, target):
    put_day(store, MONDAY, frames_of(MONDAY, 2))
    export(store, target)
    put_day(store, MONDAY, frames_of(MONDAY, 3))
    block = f"/{month_of(DETECTIONS, MONDAY)}/_settings"
    target.engine.ask("PUT", block, {"index.blocks.read_only_allow_delete": True})
    with pytest.raises(TransientError, match=r"read-only.*free disk space"):
        export(store, target)
    assert exporter(store, target).sink.count() == 4
    target.engine.ask("PUT", block, {"index.blocks.read_only_allow_delete": None})
    export(store, target)
    assert exporter(store, target).sink.count() == 6


def test_an_index_without_its_shard_is_reported_as_red(store, target):
    put_day(store, MONDAY, frames_of(MONDAY, 1))
    nowhere = {"settings": {"index.routing.allocation.require._name": "nowhere", "number_of_replicas": 0}}
    path = f"/{month_of(DETECTIONS, MONDAY)}?wait_for_active_shards=0"
    target.engine.ask("PUT", path, nowhere)
    with pytest.raises(TransientError, match="is red"):
        exporter(store, target).sink.check()
    with pytest.raises(TransientError, match="is red"):
        export(store, target)


def test_a_refused_document_is_an_error_with_the_reason(store, target):
    put_day(store, MONDAY, frames_of(MONDAY, 1, labels=["x" * 40_000]))
    with pytest.raises(PermanentError, match="immense term"):
        export(store, target)


def test_an_index_with_other_fields_is_an_error_that_says_what_to_delete(store, target):
    other = {"mappings": {"properties": {"label": {"type": "integer"}}}}
    target.engine.ask("PUT", f"/{month_of(DETECTIONS, MONDAY)}", other)
    put_day(store, MONDAY, frames_of(MONDAY, 1))
    with pytest.raises(PermanentError, match=r"label.*delete it; its days"):
        export(store, target)


def test_variables_of_older_pipelines_configure_a_sink(store, target, monkeypatch):
    address = target.config.url.removeprefix(f"http://{USER}@")
    variables = {"ES_HOST_URL": f"http://{address}", "ES_USERNAME": USER, "ES_PASSWORD": PASSWORD}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert {each.name for each in unknown_settings()} == variables.keys()
    monkeypatch.setenv("IMGPIPELINE_SINKS", target.config.kind)
    assert unknown_settings() == []
    (config,) = load_sinks(load_settings())
    assert config == replace(target.config, name=target.config.kind)
    assert open_sink(config)[0].check()


def test_elasticsearch_s_client_refuses_an_opensearch(opensearch):
    with SearchFront(opensearch.port, f"{USER}:{PASSWORD}", elasticsearch=False) as front:
        sink, _ = open_sink(config_of(f"elasticsearch+http://{USER}:{PASSWORD}@127.0.0.1:{front.port}"))
        with pytest.raises(PermanentError, match="not supported"):
            sink.check()


@pytest.mark.parametrize("kind", ["opensearch", "elasticsearch"])
def test_a_certificate_of_an_own_authority_is_trusted_by_name(opensearch, tmp_path, kind):
    made = make_certificates(tmp_path)
    odd = "p@ss/w:rd?#"
    is_elasticsearch = kind == "elasticsearch"
    login = f"{USER}:{odd}"
    with SearchFront(opensearch.port, login, elasticsearch=is_elasticsearch, certificate=made.server_file) as front:
        url = f"{kind}+https://{USER}:p%40ss%2Fw%3Ard%3F%23@127.0.0.1:{front.port}"
        assert "green" in open_sink(config_of(f"{url}?ca_certs={made.ca_file}"))[0].check()
        with pytest.raises(ConfigurationError, match=r"CERTIFICATE_VERIFY_FAILED.*ca_certs"):
            open_sink(config_of(f"{url}?ca_certs={made.wrong_ca_file}"))[0].check()


@pytest.mark.parametrize(
    "rest", ["://user@host", "+http://", "+ftp://host", "+http://host?verify=no", "+http://host?ca_certs=no"]
)
def test_an_invalid_url_is_refused_with_an_example(rest):
    with pytest.raises(ConfigurationError, match=r"write opensearch\+https://user:password@host:9200"):
        open_sink(config_of(f"opensearch{rest}"))


@pytest.mark.parametrize("password", ["can/ary@", "can?ary@", "can#ary@"])
def test_a_password_that_is_not_quoted_is_refused_and_not_shown(password):
    with pytest.raises(ConfigurationError, match="%2F") as refused:
        config_of(f"opensearch+http://user:{password}@host")
    assert "can" not in str(refused.value)


def test_a_day_has_no_version_while_its_documents_are_replaced(store, target):
    """So that a store that returns to the old version exports it again after a crash."""
    put_day(store, MONDAY, frames_of(MONDAY, 2))
    export(store, target)
    made = exporter(store, target)
    table = made.tables[0]

    def failing():
        yield from rows_of(store, table).to_batches()
        assert made.sink.stored_days(table) == {}
        raise OSError("the disk of the engine is full")

    with pytest.raises(OSError, match="full"):
        made.sink.replace_day(
            table, MONDAY, pa.RecordBatchReader.from_batches(rows_of(store, table).schema, failing()), "v"
        )
    assert [(each.table, each.day) for each in made.differences()] == [(table, MONDAY)]


def test_a_day_whose_documents_another_export_changed_is_exported_again(store, target):
    put_day(store, MONDAY, frames_of(MONDAY, 2))
    made = exporter(store, target)
    table = made.tables[0]
    rows = rows_of(store, table)
    doubled = pa.RecordBatchReader.from_batches(rows.schema, [*rows.to_batches(), *rows.to_batches()])
    with pytest.raises(TransientError, match="at the same time"):  # there are fewer documents than rows were written
        made.sink.replace_day(table, MONDAY, doubled, "v")
    assert made.sink.stored_days(table) == {}


def test_a_large_day_is_removed_in_several_requests(store, target):
    put_day(store, MONDAY, frames_of(MONDAY, 1, labels=["car"]))
    made = exporter(store, target)
    table = made.tables[0]
    one = rows_of(store, table)
    number = one.schema.get_field_index("detection_number")
    rows = pa.concat_tables([one] * 45_000).set_column(
        number, one.schema.field(number), pa.array(range(45_000), pa.int32())
    )
    assert made.sink.replace_day(table, MONDAY, rows.to_reader(1000), "v") == 45_000
    made.sink.remove_day(table, MONDAY)
    assert (made.sink.count(), made.sink.row_counts(table)) == (0, {})


def rows_of(store, table) -> pa.Table:
    """Return the rows of Monday as the export reads them."""
    with open_tables(store, table.stored, MONDAY, memory=None) as opened:
        return opened.engine.connection.sql(table.query).to_arrow_table()
