"""Stores and sessions for the tests of the lake."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path

import pytest

from imgpipeline.lake.sessions.session import LakeSession, open_lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.objectstore.stores import SHARED_KINDS, fresh_store

OpenLake = Callable[..., AbstractContextManager[LakeSession]]


@pytest.fixture(params=SHARED_KINDS)
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """A fresh store: a folder, or a prefix of a real S3 bucket."""
    return fresh_store(request.param, request)


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> ObjectStore:
    """A fresh store in the folder `store` below `tmp_path`."""
    return fresh_store("folder", request)


@pytest.fixture
def lake(tmp_path: Path) -> OpenLake:
    """Open a session with a cache of this test."""

    def open_with_cache(store: ObjectStore, days: list[date] | None = None) -> AbstractContextManager[LakeSession]:
        return open_lake(store, cache_dir=tmp_path / "cache", days=days)

    return open_with_cache
