"""Opens the three kinds of store for tests: a folder, memory, and a prefix in a bucket of the real S3 server."""

from pathlib import Path

import pytest

from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline_tests.servers.s3_server import S3Bucket

ALL_KINDS = ("folder", "memory", pytest.param("s3", marks=pytest.mark.servers))
SHARED_KINDS = ("folder", pytest.param("s3", marks=pytest.mark.servers))
"""The kinds that several processes can open."""


def s3_settings(bucket: S3Bucket, **changes: object) -> Settings:
    """Return the settings of a bucket, below the prefix `lake`, whatever the environment says."""
    values: dict[str, object] = {
        "_env_file": None,
        "store_url": f"{bucket.url}/lake",
        "s3_endpoint": bucket.endpoint,
        "s3_access_key_id": bucket.access_key_id,
        "s3_secret_access_key": bucket.secret_access_key,
        "s3_region": "us-east-1",
    }
    return Settings(**(values | changes))


def folder_settings(parent: Path) -> Settings:
    """Return the settings of a store in the folder `store` below another one."""
    return Settings(_env_file=None, store_url=(parent / "store").as_uri())


def store_settings(kind: str, request: pytest.FixtureRequest) -> Settings:
    """Return the settings of a fresh store of a kind that can be opened again."""
    if kind == "s3":
        return s3_settings(request.getfixturevalue("bucket"))
    return folder_settings(request.getfixturevalue("tmp_path"))


def copy_objects(source: ObjectStore, target: ObjectStore) -> None:
    """Copy all objects: a test changes its own copy of what was built once."""
    for info in source.list_objects():
        target.put(info.key, source.get(info.key))


def fresh_store(kind: str, request: pytest.FixtureRequest) -> ObjectStore:
    """Open a fresh store of a kind."""
    return open_memory_store() if kind == "memory" else open_store(store_settings(kind, request))
