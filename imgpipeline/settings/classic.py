"""Variables of older pipelines that are not read, and what takes the place of each.

Names that mean the same here are read: `either` lists them with their setting.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final

_TOPICS: Final = "list the topics of frames in IMGPIPELINE_KAFKA_TOPIC, separated by commas"
_CONTAINERS: Final = "containers are not part of this release; docs/site.md sets up a site"
_SINK: Final = "{} is not filled by this release yet; query the tables, or `imgpipeline export duckdb`"

CLASSIC: Final[Mapping[str, str]] = {
    "S3_BUCKET_NAME": "set IMGPIPELINE_STORE_URL=s3://BUCKET, or s3://BUCKET/PREFIX",
    "RUN_CONTINUOUSLY": "use `imgpipeline ingest folder --watch`",
    "CAR_TOPIC": _TOPICS,
    "PERSON_TOPIC": _TOPICS,
    "PEOPLE_TOPIC": _TOPICS,
    "INPUT_TOPIC": _TOPICS,
    "OUTPUT_TOPIC": "use `imgpipeline publish detections --topic` or `publish tracks --topic`",
    "YOLO_MODEL_PATH": "export the model to ONNX, and set IMGPIPELINE_MODEL to that file",
    "CSV_PATH": "use `imgpipeline tracks stats --csv > FILE`",
    "FRAME_RATE": "the times of the frames give the frame rate",
    "MQTT_TOPIC": "use `imgpipeline ingest mqtt --mqtt-topic`",
    "MQTT_BROKER": "set MQTT_HOST and MQTT_PORT",
    "MQTT_*": "settings of MQTT begin with IMGPIPELINE_MQTT_",
    "ES_*": _SINK.format("Elasticsearch"),
    "MEILI_*": _SINK.format("Meilisearch"),
    "POSTGRES_*": _SINK.format("PostgreSQL"),
    "CLICKHOUSE_*": _SINK.format("ClickHouse"),
    "HADOOP_IMAGE": "no Hadoop is needed: use `imgpipeline mapreduce`",
    "BASIC_AUTH_FILE": "use `imgpipeline keys add`, or a proxy that authenticates (docs/viewer.md)",
    "TRAEFIK_VERSION": _CONTAINERS,
    "ELASTIC_VERSION": _CONTAINERS,
    "DOMAIN_BASE": _CONTAINERS,
}
"""What to use instead of a variable, by its name or pattern; the first match counts."""


def find_replacement(name: str) -> str | None:
    """Returns what to use instead of a variable of an older pipeline; None for any other name."""
    return next((instead for pattern, instead in CLASSIC.items() if fnmatchcase(name, pattern)), None)
