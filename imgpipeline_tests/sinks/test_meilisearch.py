"""What the sink for Meilisearch adds: the documents of the older pipeline, search, tasks that fail, batches."""

from dataclasses import replace
from datetime import datetime, timedelta

import pyarrow as pa
import pytest

from imgpipeline.errors import ConfigurationError, PermanentError, TransientError
from imgpipeline.settings import load_settings
from imgpipeline.sinks.configuration import load_sinks, open_sink
from imgpipeline.sinks.exporting import Exporter
from imgpipeline.sinks.protocol import SinkConfig
from imgpipeline_tests.servers.meilisearch_stand_in import MeilisearchStandIn
from imgpipeline_tests.sinks.days import day_number, frames_of, put_day
from imgpipeline_tests.sinks.targets import WRONG, config_of

KEY = "admin-canary"
DAY = day_number(0)
ROWS = pa.table({"day": [DAY], "id": ["ab12"], "image_key": ["gate/7.png"]})


@pytest.fixture
def server():
    with MeilisearchStandIn(KEY) as server:
        yield server


@pytest.fixture
def sink(server):
    sink, _ = open_sink(sink_config(server))
    return sink


def sink_config(server, key: str = KEY) -> SinkConfig:
    return config_of(f"meilisearch+http://:{key}@127.0.0.1:{server.port}")


def images_of(count: int, bucket: str = "s3://captchas/"):
    return [
        replace(frame, source_image_path=f"{bucket}gate/{n}.png", size_bytes=1536)
        for n, frame in enumerate(frames_of(DAY, count))
    ]


def export(server, store) -> None:
    made = Exporter(store, load_settings(), sink_config(server))
    put_day(store, DAY, images_of(3))
    assert [made.sink.replace_day(*each) for each in days_of(made)] == [3]


def days_of(made):
    from imgpipeline.lake.days.summary_inputs import open_tables

    for each in made.differences():
        with open_tables(made.store, each.table.stored, each.day, memory=None) as opened:
            rows = opened.engine.connection.sql(each.table.query).to_arrow_reader()
            yield each.table, each.day, rows, each.version


def write(sink, rows: pa.Table = ROWS, version: str = "v1") -> int:
    return sink.replace_day(sink.tables[0], DAY, rows.to_reader(), version)


def documents(server) -> list[dict]:
    return list(server.indexes["image_metadata"].documents.values())
