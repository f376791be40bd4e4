"""Runs inside the sandbox of a service: tries with its credentials what it must not do, and prints what was refused."""

import json
import os
import sys
from collections.abc import Callable

import boto3
from botocore.exceptions import ClientError
from kafka import KafkaProducer
from kafka.errors import KafkaError

BUCKET = "site"


def s3_is_refused(action: str, key: str) -> bool:
    """Try to put or delete an object."""
    client = boto3.client("s3", endpoint_url=os.environ["IMGPIPELINE_S3_ENDPOINT"])
    try:
        if action == "put":
            client.put_object(Bucket=BUCKET, Key=key, Body=b"x")
        else:
            client.delete_object(Bucket=BUCKET, Key=key)
    except ClientError as error:
        return error.response["Error"]["Code"] == "AccessDenied"
    return False


def kafka_is_refused() -> bool:
    """Try to announce a frame."""
    producer = KafkaProducer(
        bootstrap_servers=os.environ["IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS"],
        security_protocol="SASL_SSL",
        ssl_cafile=os.environ["IMGPIPELINE_KAFKA_CA_FILE"],
        sasl_mechanism="SCRAM-SHA-512",
        sasl_plain_username=os.environ["IMGPIPELINE_KAFKA_USERNAME"],
        sasl_plain_password=os.environ["IMGPIPELINE_KAFKA_PASSWORD"],
        max_block_ms=10_000,
    )
    try:
        producer.send("frames", b"{}").get(timeout=15)
    except KafkaError as error:
        return "Authorization" in type(error).__name__
    finally:
        producer.close(timeout=1)
    return False


ATTEMPTS: dict[str, dict[str, Callable[[], bool]]] = {
    "sources": {
        "write the ledger": lambda: s3_is_refused("put", "metadata/x"),
        "write a table": lambda: s3_is_refused("put", "frames/x"),
        "delete an image": lambda: s3_is_refused("delete", "images/x"),
    },
    "ingest": {
        "write the ledger": lambda: s3_is_refused("put", "metadata/x"),
        "delete an image": lambda: s3_is_refused("delete", "images/x"),
    },
    "viewer": {
        "write the ledger": lambda: s3_is_refused("put", "metadata/x"),
        "write an image": lambda: s3_is_refused("put", "images/x"),
        "delete a table": lambda: s3_is_refused("delete", "frames/x"),
    },
    "exporter": {
        "write the ledger": lambda: s3_is_refused("put", "metadata/x"),
        "write an alert": lambda: s3_is_refused("put", "alerts/x"),
        "announce a frame": kafka_is_refused,
    },
    "code": {
        "delete from the ledger": lambda: s3_is_refused("delete", "metadata/x"),
        "announce a frame": kafka_is_refused,
    },
}

print(json.dumps({name: attempt() for name, attempt in ATTEMPTS[sys.argv[1]].items()}))
