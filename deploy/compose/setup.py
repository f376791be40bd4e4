"""Prepare the servers of a site: buckets and their policies, topics and their rights, the database of Dagster.

Runs before everything else with each `docker compose up`, and changes nothing that is already right. It has the
credentials of the administrators; no other process has them. Which of the servers it prepares is in `SETUP`: those that
are not part of the site are yours to prepare, by the same rights.toml.
"""

import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import psycopg2
from botocore.exceptions import ClientError
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType
from psycopg2 import sql

from imgpipeline.settings import load_settings
from imgpipeline.stream.connection import open_admin

RIGHTS = tomllib.loads((Path(__file__).parent / "rights.toml").read_text())
_ARN = "arn:aws:s3:::"
_KAFKA_RESOURCES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transaction": ResourceType.TRANSACTIONAL_ID,
    "cluster": ResourceType.CLUSTER,
}


def main() -> None:
    """Prepare the servers that are part of the site, and the first API key."""
    keys = Path(os.environ["IMGPIPELINE_API_KEYS_FILE"])
    if not keys.exists():
        shutil.copyfile("/run/secrets/api_keys.json", keys)
    parts = os.environ["SETUP"].split(",")
    if "s3" in parts:
        prepare_buckets()
    if "kafka" in parts:
        prepare_topics()
    if "postgres" in parts:
        prepare_database()


def prepare_buckets() -> None:
    """Create the site's bucket and the one for the output of runs, and put their policies."""
    s3 = boto3.client("s3", endpoint_url=os.environ["IMGPIPELINE_S3_ENDPOINT"])
    site = urlsplit(os.environ["IMGPIPELINE_STORE_URL"]).netloc
    logs = os.environ["DAGSTER_LOGS_BUCKET"]
    for bucket, statements in ((site, site_statements(site)), (logs, logs_statements(logs))):
        try:
            s3.head_bucket(Bucket=bucket)
        except ClientError:
            s3.create_bucket(Bucket=bucket)
        policy = {"Version": "2012-10-17", "Statement": list(statements)}
        s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
        print(f"setup: the bucket {bucket} exists, with its policy", flush=True)


def site_statements(bucket: str) -> Iterator[dict[str, Any]]:
    """Yield the statements of the policy of the site's bucket."""
    rights: dict[str, dict[str, Any]] = RIGHTS["s3"]
    users = [user for user, may in rights.items() if "read" in may]
    yield _statement("Allow", users, ["s3:ListBucket", "s3:GetBucketLocation"], [_ARN + bucket])
    for user, may in rights.items():
        for right, effect, actions in (
            ("read", "Allow", ["s3:GetObject"]),
            ("write", "Allow", ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]),
            ("delete", "Allow", ["s3:DeleteObject"]),
            ("keep", "Deny", ["s3:DeleteObject"]),
        ):
            if right in may:
                yield _statement(effect, [user], actions, [f"{_ARN}{bucket}/{prefix}" for prefix in may[right]])


def logs_statements(bucket: str) -> Iterator[dict[str, Any]]:
    """Yield the statements of the policy of the bucket for the output of runs."""
    users = [user for user, may in RIGHTS["s3"].items() if may.get("logs")]
    yield _statement("Allow", users, ["s3:ListBucket", "s3:GetBucketLocation"], [_ARN + bucket])
    yield _statement("Allow", users, ["s3:GetObject", "s3:PutObject"], [f"{_ARN}{bucket}/*"])


def _statement(effect: str, users: Iterable[str], actions: list[str], resources: list[str]) -> dict[str, Any]:
    return {"Effect": effect, "Principal": {"AWS": list(users)}, "Action": actions, "Resource": resources}


def prepare_topics() -> None:
    """Create the topics, and give each process its rights on them."""
    subprocess.run(["imgpipeline", "topics", "create", "--partitions", os.environ["PARTITIONS"]], check=True)
    with open_admin(load_settings()) as admin:
        failed = admin.create_acls(list(kafka_rights()))["failed"]
    if failed:
        raise SystemExit(f"setup: Kafka refused {len(failed)} rights: {failed[0]}")
    print("setup: each process has its rights on the topics", flush=True)


def kafka_rights() -> Iterator[ACL]:
    """Yield the rights of each process."""
    names = {
        "topic": os.environ["IMGPIPELINE_KAFKA_TOPIC"].split(","),
        "group": [os.environ.get("IMGPIPELINE_KAFKA_GROUP", "imgpipeline")],
        "transaction": ["*"],
        "cluster": ["kafka-cluster"],
    }
    for user, may in RIGHTS["kafka"].items():
        for kind, operations in may.items():
            for name in names[kind]:
                pattern = ResourcePattern(_KAFKA_RESOURCES[kind], name.strip())
                for operation in operations:
                    allowed = ACLPermissionType.ALLOW
                    yield ACL(f"User:{user}", "*", ACLOperation[operation], allowed, pattern)


def prepare_database() -> None:
    """Create Dagster's account with its database, which is all that it may see, and one that only reads there."""
    database, owner = os.environ["DAGSTER_POSTGRES_DB"], os.environ["DAGSTER_POSTGRES_USER"]
    with connected("postgres") as cursor:
        create_account(cursor, owner, os.environ["DAGSTER_POSTGRES_PASSWORD"])
        create_account(cursor, "exporter", os.environ["EXPORTER_POSTGRES_PASSWORD"])
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database])
        if cursor.fetchone() is None:
            run_sql(cursor, "CREATE DATABASE {} OWNER {}", database, owner)
        run_sql(cursor, "REVOKE ALL ON DATABASE {} FROM PUBLIC", database)
        run_sql(cursor, "GRANT CONNECT ON DATABASE {} TO exporter", database)
    with connected(database) as cursor:
        cursor.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO exporter")
        run_sql(cursor, "ALTER DEFAULT PRIVILEGES FOR ROLE {} GRANT SELECT ON TABLES TO exporter", owner)
    print("setup: the database of Dagster exists", flush=True)


@contextmanager
def connected(database: str) -> Iterator[Any]:
    """Connect as the administrator; each statement is committed at once, as CREATE DATABASE wants it."""
    host, port = os.environ["DAGSTER_POSTGRES_HOST"], os.environ["DAGSTER_POSTGRES_PORT"]
    connection = psycopg2.connect(host=host, port=port, user="postgres", dbname=database)
    connection.autocommit = True
    try:
        yield connection.cursor()
    finally:
        connection.close()


def create_account(cursor: Any, name: str, password: str) -> None:
    """Create an account, or give it its password again."""
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name])
    if cursor.fetchone() is None:
        run_sql(cursor, "CREATE ROLE {} LOGIN", name)
    cursor.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), sql.Literal(password)))


def run_sql(cursor: Any, statement: str, *names: str) -> None:
    """Execute a statement with names in it."""
    cursor.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


if __name__ == "__main__":
    main()
