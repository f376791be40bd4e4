"""Stores for the tests of tracks."""

import pytest

from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store


@pytest.fixture
def memory() -> ObjectStore:
    """A fresh store in memory."""
    return open_memory_store()
