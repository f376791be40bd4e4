"""Runs inside the sandbox of a service: tries with its credentials what it must not do, and prints how it ended."""

import json
import os
import sys
from collections.abc import Callable, Mapping

import boto3
from botocore.exceptions import ClientError
from kafka import KafkaProducer
from kafka.errors import KafkaError

from imgpipeline.settings import load_settings
from imgpipeline.stream.connection import kafka_options

BUCKET = "site"


def put(key: str) -> str:
    """Try to write an object."""
    return _s3("put_object", Key=key, Body=b"x")


def delete(key: str) -> str:
    """Try to delete an object."""
    return _s3("delete_object", Key=key)


def announce() -> str:
    """Try to announce a frame."""
    options = kafka_options(load_settings())
    # With idempotence, the broker refuses the producer before it sees the topic.
    producer = KafkaProducer(**options, enable_idempotence=False)
    try:
        producer.send("frames", b"{}").get(timeout=60)
    except KafkaError as error:
        return type(error).__name__
    finally:
        producer.close(timeout=1)
    return "allowed"


def _s3(action: str, **arguments: object) -> str:
    endpoint = os.environ.get("IMGPIPELINE_S3_ENDPOINT") or os.environ["DAGSTER_LOGS_ENDPOINT"]
    client = boto3.client("s3", endpoint_url=endpoint)
    try:
        getattr(client, action)(Bucket=BUCKET, **arguments)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "allowed"


ATTEMPTS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "sources": {
        "write the ledger": lambda: put("metadata/x"),
        "write a table": lambda: put("frames/x"),
        "delete an image": lambda: delete("images/x"),
    },
    "ingest": {
        "write the ledger": lambda: put("metadata/x"),
        "delete an image": lambda: delete("images/x"),
    },
    "viewer": {
        "write the ledger": lambda: put("metadata/x"),
        "write an image": lambda: put("images/x"),
        "delete a table": lambda: delete("frames/x"),
    },
    "exporter": {
        "write the ledger": lambda: put("metadata/x"),
        "write an alert": lambda: put("alerts/x"),
        "announce a frame": announce,
    },
    "webserver": {
        "write the ledger": lambda: put("metadata/x"),
        "write a table": lambda: put("frames/x"),
        "delete an image": lambda: delete("images/x"),
    },
    "code": {
        "delete from the ledger": lambda: delete("metadata/x"),
        "announce a frame": announce,
    },
}

if __name__ == "__main__":
    print(json.dumps({name: attempt() for name, attempt in ATTEMPTS[sys.argv[1]].items()}))
