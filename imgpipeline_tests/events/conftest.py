"""The store of the tests of events."""

from pathlib import Path

import pytest

from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline_tests.objectstore.stores import folder_settings


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    """A store whose objects have versions, and which several processes can open."""
    return open_store(folder_settings(tmp_path))
