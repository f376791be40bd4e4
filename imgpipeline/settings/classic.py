"""Variables of older pipelines that are not read, and what takes the place of each.

Names that mean the same here are read: `either` lists them with their setting.
"""

from collections.abc import Mapping
from typing import Final

CLASSIC: Final[Mapping[str, str]] = {
    "set IMGPIPELINE_STORE_URL=s3://BUCKET, or s3://BUCKET/PREFIX": "S3_BUCKET_NAME",
    "list the topics of frames in IMGPIPELINE_KAFKA_TOPIC, separated by commas": (
        "CAR_TOPIC PERSON_TOPIC PEOPLE_TOPIC INPUT_TOPIC"
    ),
    "use `imgpipeline publish detections --topic` or `publish tracks --topic`": "OUTPUT_TOPIC",
    "use `imgpipeline publish detections --csv-file` or `publish tracks --csv-file`": "CSV_PATH",
    "export the model to ONNX, and set IMGPIPELINE_MODEL to that file": "YOLO_MODEL_PATH",
    "the times of the frames give the frame rate": "FRAME_RATE",
    "use `imgpipeline ingest mqtt --mqtt-topic`": "MQTT_TOPIC",
    "set MQTT_HOST, MQTT_PORT, MQTT_USERNAME, MQTT_PASSWORD, or settings that begin with IMGPIPELINE_MQTT_": "MQTT_*",
    "add `elasticsearch` or `opensearch` to IMGPIPELINE_SINKS, which then reads ES_HOST_URL, ES_USERNAME and "
    "ES_PASSWORD": "ES_*",
    "add `meilisearch` to IMGPIPELINE_SINKS, which then reads MEILI_HTTP_ADDR and MEILI_MASTER_KEY": "MEILI_*",
    "add `clickhouse` to IMGPIPELINE_SINKS, which then reads CLICKHOUSE_HOST": "CLICKHOUSE_*",
    "set IMGPIPELINE_SINKS=NAME=postgresql://USER:PASSWORD@HOST/DATABASE": "POSTGRES_*",
    "there are no containers in this release; docs/site.md sets up a site": (
        "TRAEFIK_* ELASTIC_VERSION HADOOP_IMAGE DOMAIN_BASE BASIC_AUTH_FILE"
    ),
}
"""The variables, or patterns of them, by what to use instead; the first match counts."""
