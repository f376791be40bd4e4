"""Stores for the tests of the ledger."""

import pytest

from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.objectstore.stores import ALL_KINDS, SHARED_KINDS, fresh_store, store_settings


@pytest.fixture(params=ALL_KINDS)
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """A fresh store: a folder (lists unsorted), memory, or a prefix of a real S3 bucket."""
    return fresh_store(request.param, request)


@pytest.fixture(params=SHARED_KINDS)
def settings(request: pytest.FixtureRequest) -> Settings:
    """Settings of a fresh store that several processes can open."""
    return store_settings(request.param, request)
