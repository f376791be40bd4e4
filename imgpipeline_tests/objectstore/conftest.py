"""Stores for the tests of this folder."""

import pytest

from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.objectstore.stores import ALL_KINDS, fresh_store


@pytest.fixture(params=ALL_KINDS)
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """A fresh store: a folder, memory, or a prefix of a real S3 bucket."""
    return fresh_store(request.param, request)
