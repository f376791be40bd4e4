"""Stores with a day of detected pictures."""

from pathlib import Path

import pytest

from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a folder store; parts of four frames."""
    monkeypatch.chdir(tmp_path)
    return load_settings(store_url=(tmp_path / "store").as_uri(), redetect_part_frames=4)


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    """The folder store."""
    return open_store(settings)
